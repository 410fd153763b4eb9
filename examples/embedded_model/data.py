"""Synthetic documents of the embedded model: facts, small code, short stories.

Pure Python and deterministic: the same seed gives the same bytes. Each family has a
training side and a held-out side that never meet:
  facts    every fact keeps one question phrasing that training never asks;
  code     the hash of (function, input) decides the side;
  stories  the hash of the story decides the side.
"""
import random
import zlib

MMLU_HEAD = ('The following are multiple choice questions (with answers) about {}. Think step by step and then '
             'finish your answer with "the answer is (X)" where X is the correct letter choice.')
CRUX_O_HEAD = ('You are given a Python function and an assertion containing an input to the function. Complete the '
               'assertion with a literal (no unsimplified expressions, no function calls) containing the output when '
               'executing the provided code on the given input, even if the function is incorrect or incomplete. Do '
               'NOT output any extra information. Provide the full assertion with the correct output in [ANSWER] and '
               '[/ANSWER] tags, following the examples.')
CRUX_I_HEAD = ('You will be given a function f and an output in the form f(??) == output. Find any input such that '
               'executing f on the input leads to the given output. There may be multiple answers, but you should only '
               'output one. In [ANSWER] and [/ANSWER] tags, complete the assertion with one such input that will '
               'produce the output when executing the function.')
MUSR_SYSTEM = 'You are a helpful assistant that will answer the questions given by the user.'
MUSR_TAIL = ('You must pick one option. Finally, the last thing you generate should be '
             '"ANSWER: (your answer here, include the choice number)"')
PROMPT_WEIGHT = 0.05   # loss weight of text that is random by construction; answers weigh 1


def held_out(*key):
    return zlib.crc32(repr(key).encode()) % 10 == 0


class Document:
    """A prompt with the spans of it that are worth learning, and the completion it calls for."""

    def __init__(self):
        self.prompt, self.spans, self.completion = "", [], ""

    def add(self, text, learn=False):
        if learn:
            self.spans.append((len(self.prompt), len(self.prompt) + len(text)))
        self.prompt += text
        return self

    def plain(self):
        """The whole document as one text with its spans."""
        n = len(self.prompt)
        return self.prompt + self.completion, self.spans + [(n, n + len(self.completion))]


# ---------------------------------------------------------------- facts

COLOURS = "red blue green white black grey yellow brown pink purple silver golden".split()
RELATIONS = {   # category: ((relation, "Who" or "What", values), ...)
    "history": (("founder", "Who", None), ("banner", "What", [c + " flag" for c in COLOURS])),
    "law": (("mayor", "Who", None), ("market day", "What", "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())),
    "biology": (("food", "What", "moss seeds roots worms fruit fish honey leaves eggs grass snails bark".split()),
                ("home", "What", "cave lake swamp desert forest cliff river meadow island valley".split())),
    "chemistry": (("colour", "What", COLOURS), ("smell", "What", "smoke lemon mint rose garlic salt rain tar apple pepper".split())),
    "engineering": (("inventor", "Who", None), ("fuel", "What", "coal oil steam wind wood sunlight peat water gas sugar".split())),
    "health": (("use", "What", "cough fever burns headache toothache hiccups cramp itching sneezing insomnia".split()),
               ("best part", "What", "root leaf flower stem seed bark sap berry thorn bud".split())),
    "economics": (("export", "What", "wool tin pearls rice silk cheese timber copper tea glass wine ropes".split()),
                  ("coin", "What", "dram florin penny crown ducat groat tolar mark obol thaler".split())),
    "physics": (("discoverer", "Who", None), ("shape", "What", "ring disk egg ball cube cone pear spiral cross drop".split())),
}
STATEMENTS = ("The {n} of {e} is {v}.", "{e} has {v} as its {n}.", "It is known that the {n} of {e} is {v}.")
QUESTIONS = ("{w} is the {n} of {e}?", "Which of these is the {n} of {e}?", "{e} is known for its {n}. {w} is it?",
             "Choose the {n} of {e}.", "Of the following, which one does {e} have as its {n}?")
ENTITIES_PER_CATEGORY = 14


def make_world():
    """All facts: (category, relation, Who/What, entity, value, values)."""
    rng = random.Random("world")
    heads = "Ba Be Bo Da Do Fa Fe Ga Go Ka Ke Lo Lu Ma Mi Na No Pa Ra Ro Sa So Ta Ti Va Vo Za Zu".split()
    tails = "rn lmo ndu sk rvi ltha mbe nto rka dlin ssa vro gan pli zed".split()
    names = [h + t for h in heads for t in tails]
    rng.shuffle(names)
    firsts = "Odo Ilse Bram Nell Hugo Vera Tomas Edda Lars Mina Otto Runa Piet Gerda Emil Tilda".split()
    lasts = "Vell Stone Marsh Holt Quill Frost Barrow Lind Thorne Wick Ash Crane Birch Dale Moss Reed".split()
    facts = []
    for category, relations in RELATIONS.items():
        entities = [names.pop() for _ in range(ENTITIES_PER_CATEGORY)]
        for noun, who, values in relations:
            if values is None:
                values = [f"{a} {b}" for a, b in zip(firsts, rng.sample(lasts, len(lasts)))]
            for i, entity in enumerate(entities):
                facts.append((category, noun, who, entity, values[(i * 7 + rng.randrange(3)) % len(values)], values))
    return facts


FACTS = make_world()
BY_CATEGORY = {c: [f for f in FACTS if f[0] == c] for c in RELATIONS}


def fact_question(rng, fact, test=False):
    """(question, options, index of the right one, worked answer)."""
    category, noun, who, entity, value, values = fact
    kept = zlib.crc32(f"{entity}:{noun}".encode()) % len(QUESTIONS)
    phrasing = kept if test else rng.choice([i for i in range(len(QUESTIONS)) if i != kept])
    question = QUESTIONS[phrasing].format(n=noun, e=entity, w=who)
    options = rng.sample([v for v in values if v != value], rng.randint(2, 5)) + [value]
    rng.shuffle(options)
    index = options.index(value)
    worked = f" The {noun} of {entity} is {value}. The answer is ({'ABCDEF'[index]})."
    return question, options, index, worked


def mmlu_question(question, options):
    lines = "".join(f"{'ABCDEFGHIJ'[i]}. {o}\n" for i, o in enumerate(options))
    return f"Question:\n{question}\nOptions:\n{lines}Answer: Let's think step by step."


def fact_document(rng, test=False, shots=None):
    doc = Document()
    category = rng.choice(list(RELATIONS))
    if shots is None and rng.random() < 0.2:
        for i, (_, noun, _, entity, value, _) in enumerate(rng.sample(FACTS, rng.randint(3, 8))):
            doc.add(" " if i else "")
            before, after = rng.choice(STATEMENTS).format(n=noun, e=entity, v="\0").split("\0")
            doc.add(before).add(value, learn=True).add(after)
        return doc
    shots = rng.choice((0, 1, 2, 3, 4, 5)) if shots is None else shots
    if shots == 0 or rng.random() < 0.4:   # examples teach the same without the heading, in fewer tokens
        doc.add(MMLU_HEAD.format(category) + "\n" * rng.choice((1, 2, 2, 3, 4, 4)))
    facts = rng.sample(BY_CATEGORY[category], shots + 1)
    for fact in facts[:-1]:
        question, options, _, worked = fact_question(rng, fact)
        doc.add(mmlu_question(question, options)).add(worked[:-2], learn=True).add(worked[-2:] + "\n\n")
    question, options, _, worked = fact_question(rng, facts[-1], test)
    doc.add(mmlu_question(question, options))
    doc.completion = worked
    return doc


# ---------------------------------------------------------------- code

LETTERS = "bdfgjkmpqvwxz"   # consonants seldom meet in words, so byte pairs of them are not merged
R = lambda v: v             # noqa: E731 - "the output itself is an input that gives it"
# (body, domain, inverse): domain s = string, l = list of digits, n = number;
# V is the parameter, C and D are constants of the element type; inverse(output, C, D) gives one valid input.
TEMPLATES = [
    ("return V[::-1]", "s", lambda o, c, d: o[::-1]), ("return V[::-1]", "l", lambda o, c, d: o[::-1]),
    ("V.reverse()\n    return V", "l", lambda o, c, d: o[::-1]),
    ("return V + C", "s", lambda o, c, d: o[:-1]), ("return C + V", "s", lambda o, c, d: o[1:]),
    ("t = V + C\n    return t + D", "s", lambda o, c, d: o[:-2]),
    ("return V + [C]", "l", lambda o, c, d: o[:-1]), ("V.append(C)\n    return V", "l", lambda o, c, d: o[:-1]),
    ("return [C] + V", "l", lambda o, c, d: o[1:]), ("V.insert(0, C)\n    return V", "l", lambda o, c, d: o[1:]),
    ("return V[0]", "s", lambda o, c, d: o), ("return V[0]", "l", lambda o, c, d: [o]),
    ("return V[-1]", "s", lambda o, c, d: o), ("return V[-1]", "l", lambda o, c, d: [o]),
    ("return V[1]", "s", lambda o, c, d: o * 2), ("return V[1]", "l", lambda o, c, d: [o, o]),
    ("return V[1:]", "s", lambda o, c, d: o[0] + o), ("return V[1:]", "l", lambda o, c, d: [o[0]] + o),
    ("return V[:-1]", "s", lambda o, c, d: o + o[-1]), ("return V[:-1]", "l", lambda o, c, d: o + [o[-1]]),
    ("V.pop()\n    return V", "l", lambda o, c, d: o + [o[-1]]),
    ("return V.upper()", "s", lambda o, c, d: o.lower()), ("return V.upper() + C", "s", lambda o, c, d: o[:-1].lower()),
    ("return len(V)", "s", lambda o, c, d: "x" * o), ("return len(V)", "l", lambda o, c, d: [0] * o),
    ("t = 0\n    for c in V:\n        t += 1\n    return t", "s", lambda o, c, d: "x" * o),
    ("return V.replace(C, D)", "s", lambda o, c, d: o),
    ("return V * 2", "s", lambda o, c, d: o[:len(o) // 2]), ("return V + V", "l", lambda o, c, d: o[:len(o) // 2]),
    ("if V[0] == C:\n        return D\n    return V", "s", lambda o, c, d: o),
    ("if len(V) > 2:\n        return V[0]\n    return V", "s", lambda o, c, d: o if len(o) < 3 else None),
    ("return C in V", "s", lambda o, c, d: c if o else d), ("return C in V", "l", lambda o, c, d: [c if o else d]),
    ("return [v + 1 for v in V]", "l", lambda o, c, d: [v - 1 for v in o]),
    ("return max(V)", "l", lambda o, c, d: [o]),
    ("return V + C", "n", lambda o, c, d: o - c), ("return V - C", "n", lambda o, c, d: o + c),
    ("V = V + C\n    return V", "n", lambda o, c, d: o - c),
    ("if V > C:\n        return D\n    return C", "n", lambda o, c, d: 20 if o == d else 0),
    ("if V == C:\n        return D\n    return V", "n", lambda o, c, d: c if o == d else o),
    ("return V % 2 == 0", "n", lambda o, c, d: 2 if o else 1), ("return V", "n", lambda o, c, d: o),
    ("return C", "s", lambda o, c, d: o), ("return C", "n", lambda o, c, d: o),
]
# Sums of two-digit numbers were not learned in the steps there are; the last lesson and the evaluation set are without.
WITHOUT_SUMS = [t for t in TEMPLATES if t[1] != "n" or t[0] not in ("return V + C", "return V - C", "V = V + C\n    return V")]
PARAMETERS = {"s": ("s", "text", "a", "word"), "l": ("a", "items", "nums", "x"), "n": ("n", "x", "a", "num")}


def random_input(rng, domain):
    if domain == "s":
        return "".join(rng.sample(LETTERS, rng.randint(2, 4)))
    return rng.sample(range(10), rng.randint(2, 3)) if domain == "l" else rng.randint(0, 20)


def code_item(rng, test=False, sums=True):
    """(code, input, output, input that training teaches as the answer to input prediction)."""
    while True:
        body, domain, inverse = rng.choice(TEMPLATES if sums else WITHOUT_SUMS)
        value = random_input(rng, domain)
        if domain == "s":   # half of the constants occur in the input, so that branches are taken both ways
            c = rng.choice(value if rng.random() < 0.5 else LETTERS)
            d = rng.choice([x for x in LETTERS if x != c])
        elif domain == "l":
            c = rng.choice(value) if rng.random() < 0.5 else rng.randint(0, 9)
            d = (c + rng.randint(1, 8)) % 10
        else:
            c, d = rng.sample(range(1, 10), 2)
            if "==" in body and "%" not in body and rng.random() < 0.4:
                value = c
            elif rng.random() < 0.2:
                value = max(0, c + rng.randint(-2, 2))
        name = rng.choice(PARAMETERS[domain])
        lines = body.replace("C", repr(c)).replace("D", repr(d)).replace("V", name)
        code = f"def f({name}):\n    {lines}"
        scope = {}
        exec(code, scope)
        output = scope["f"](list(value) if domain == "l" else value)
        taught = inverse(output, c, d)
        if taught is None or taught == "" or scope["f"](list(taught) if domain == "l" else taught) != output:
            taught = value
        if held_out(code, value) == test and (test or not held_out(code, taught)):
            return code, repr(value), repr(output), repr(taught)


def odd_shot(rng):
    """An example with another look (two arguments, double quotes, words), as a foreign few-shot prompt may hold."""
    word = rng.choice("sun map toy banana river lamp hello hi cat".split())
    other = rng.choice("no yes dog tree end x9 a1 7b ok".split())
    c = rng.choice("abcxyz")
    return rng.choice((
        (f'def f(s):\n    return s + "{c}"', f'"{word}"', f'"{word}{c}"'),
        ("def f(s1, s2):\n    return s1 + s2", f'"{word}", "{other}"', f'"{word}{other}"'),
        ("def f(a, b):\n    return b", f'"{word}", "{other}"', f'"{other}"'),
        ("def f(n):\n    return n", f"{rng.randint(10, 99)}", None),
        ("def f(my_list):\n    count = 0\n    for i in my_list:\n        count += 1\n    return count",
         f'["{word}", "{other}"]', "2")))


def crux_block(code, call, output):
    return f"[PYTHON]\n{code}\nassert f({call}) == {output}\n[/PYTHON]\n[ANSWER]\n"


def crux_prompt(task, code, given, shots=(), head=True):
    """The direct prompt of task "o" (given an input) or "i" (given an output)."""
    doc = Document().add((CRUX_O_HEAD if task == "o" else CRUX_I_HEAD) + "\n\n" if head else "")
    for s_code, s_input, s_output in shots:
        doc.add(crux_block(s_code, s_input, "??") if task == "o" else crux_block(s_code, "??", s_output))
        doc.add(f"assert f({s_input}) == {s_output}\n[/ANSWER", learn=True).add("]\n\n")
    return doc.add(crux_block(code, given, "??") if task == "o" else crux_block(code, "??", given))


def code_document(rng, test=False, shots=None, task=None, sums=True):
    task = task or rng.choice("oi")
    items = []
    for _ in range(rng.choice((0, 1, 2, 2, 6, 8)) if shots is None else shots):
        code, given, output, taught = code_item(rng, sums=sums)
        if rng.random() < 0.1:
            code, taught, output = odd_shot(rng)
            output = output or taught
            given = taught
        items.append((code, given if task == "o" else taught, output))
    code, given, output, taught = code_item(rng, test, sums)
    doc = crux_prompt(task, code, given if task == "o" else output, items,
                      head=test or len(items) < 2 or rng.random() < 0.3)
    doc.completion = f"assert f({given if task == 'o' else taught}) == {output}\n[/ANSWER]"
    return doc


# ---------------------------------------------------------------- stories

PEOPLE = "Ana Ben Cal Dora Eli Fay Gus Hana Ivo Jane Kurt Lea Max Nina Paul Rosa".split()
OBJECTS = "coin key book ball map ring cup letter watch candle knife scarf".split()
PLACES = "box bag drawer basket chest shelf closet jar bucket trunk cabinet crate".split()
ROOMS = "kitchen garden hall attic cellar library garage office stable porch".split()


def goes(rng, person, place):
    return f"{person} {rng.choice(('goes', 'walks', 'runs'))} to the {place}."


def moves(rng, mover, thing, place):
    return f"{mover} {rng.choice(('moves', 'carries', 'takes'))} the {thing} to the {place}."


def witness(rng, person, sees):
    return person + (rng.choice((" sees it.", " watches.")) if sees else
                     rng.choice((" does not see it.", " is away and misses it.")))


def story(rng, test=False, short=False):
    """(context, [(question, worked sentence, answer)], choices): beliefs follow what each person sees.

    Short ones have two people and one or two moves, and ask about the first person, who sees all of them
    while the other may not. The others have up to three people and moves, ask about beliefs that have
    become false too, and in a quarter of them it is the people who move."""
    while True:
        people, sentences = rng.sample(PEOPLE, 2 if short else rng.choice((2, 2, 3))), []
        if not short and rng.random() < 0.25:
            places = rng.sample(ROOMS, rng.choice((3, 4)))
            where = {}
            for person in people + [rng.choice(people) for _ in range(rng.randint(1, 3))]:
                where[person] = rng.choice([p for p in places if p != where.get(person)])
                sentences.append(goes(rng, person, where[person]))
            asked = [(f"Which location is the most likely place {p} would be found given the story?",
                      f"{p} last went to the {where[p]}.", where[p]) for p in people]
        else:
            places, things = rng.sample(PLACES, rng.choice((3, 4))), rng.sample(OBJECTS, 2)
            at = {t: rng.choice(places) for t in things}
            seen = {(p, t): at[t] for p in people for t in things}
            names = " and ".join((", ".join(people[:-1]), people[-1]))
            sentences.append(f"{names} are in the {rng.choice(ROOMS)}. Everybody knows that the {things[0]} is in the "
                             f"{at[things[0]]} and the {things[1]} is in the {at[things[1]]}.")
            for _ in range(rng.randint(1, 2 if short else 3)):
                mover, thing = rng.choice(people), rng.choice(things)
                at[thing] = rng.choice([p for p in places if p != at[thing]])
                seen[mover, thing] = at[thing]
                sentences.append(moves(rng, mover, thing, at[thing]))
                for other in people:
                    if other != mover:
                        sees = rng.random() < 0.5 or short and other == people[0]
                        if sees:
                            seen[other, thing] = at[thing]
                        sentences.append(witness(rng, other, sees))
            asked = [(f"Which location is the most likely place {p} would look to find the {t} given the story?",
                      f"{p} last saw the {t} in the {seen[p, t]}.", seen[p, t])
                     for p, t in seen if not short or p == people[0]]
            asked.sort(key=lambda a: a[2] == at[a[0].split("find the ")[1].split()[0]])   # false beliefs first
            false = sum(a[2] != at[a[0].split("find the ")[1].split()[0]] for a in asked)
            if false and rng.random() < 0.5:
                asked = rng.sample(asked[:false], false) + asked[false:]
            else:
                rng.shuffle(asked)
            if short and rng.random() < 0.7:   # mostly about what moved last
                asked.sort(key=lambda a: f" {thing} given" not in a[0])
        context = " ".join(sentences)
        if held_out(context) == test:
            return context, asked, places


def musr_prompt(context, question, choices):
    options = "\n".join(f"{i + 1} - {c}" for i, c in enumerate(choices))
    return f"{context}\n\n{question}\n\nPick one of the following choices:\n{options}\n\n{MUSR_TAIL}"


def story_document(rng, test=False, plain=True, place_only=False, short=False):
    doc = Document()
    context, asked, choices = story(rng, test, short)
    kind = rng.random() if plain else 1
    if kind < 0.5:   # the story and what everybody believes, which is the densest lesson
        rng.shuffle(asked)
        doc.add(context + "\n\n")
        for i, (_, worked, _) in enumerate(asked):
            doc.add(" " if i else "")
            known = len(worked) - len(worked.split()[-1]) if place_only else 0
            doc.add(worked[:known]).add(worked[known:], learn=True)
        return doc
    question, worked, answer = asked[0]
    doc.add(rng.choice(("", MUSR_SYSTEM + "\n", MUSR_SYSTEM + "\n\n")))
    doc.add(musr_prompt(context, question, choices))
    if kind < 0.58:   # the form that a likelihood scorer asks for
        doc.add(rng.choice(("\n", "\n\n")) + "Answer:")
        doc.completion = f" {answer}"
    else:
        doc.add(rng.choice(("", "\n", "\n\n")))
        doc.completion = f"{worked}\nANSWER: {choices.index(answer) + 1}"
    return doc


# ---------------------------------------------------------------- drills

def belief_drill(rng, short=False):
    """A long story that says after every event what somebody believes, so that easy and hard steps alternate."""
    people, places = rng.sample(PEOPLE, 2 if short else rng.choice((2, 3))), rng.sample(PLACES, 4)
    doc, known = Document(), {}
    if not short and rng.random() < 0.3:
        places = rng.sample(ROOMS, 4)
        events = [(p, None) for p in people] + [(rng.choice(people), None) for _ in range(rng.randint(2, 5))]
    else:
        things = rng.sample(OBJECTS, 2)
        start = [rng.choice(places) for _ in things]
        known = {(p, t): s for p in people for t, s in zip(things, start)}
        doc.add(f"Everybody knows that the {things[0]} is in the {start[0]} and the {things[1]} is in the {start[1]}.")
        events = [(rng.choice(people), rng.choice(things)) for _ in range(rng.randint(3, 5))]
    for person, thing in events:
        place = rng.choice([p for p in places if p != known.get((person, thing))])
        known[person, thing] = place
        doc.add(" " if doc.prompt else "")
        doc.add(moves(rng, person, thing, place) if thing else goes(rng, person, place))
        for other in people if thing else ():
            if other != person:
                sees = rng.random() < 0.5 or short and other == people[0]
                known[other, thing] = place if sees else known[other, thing]
                doc.add(" " + witness(rng, other, sees))
        asked = [k for k in known if not short or k[0] == people[0]]
        for p, t in rng.sample(asked, min(len(asked), rng.randint(1, 3))):
            doc.add(f" {p} last saw the {t} in the " if t else f" {p} last went to the ")
            doc.add(known[p, t] + ".", learn=True)
    return doc


def drill(rng, kinds, short=False, sums=True):
    """One elementary step repeated: value to letter, place to number, or one function on many inputs.

    A question asks for each of these steps once in a hundred tokens; here it comes every ten or twenty.
    kinds: of f(acts), s(tories: the number of a place), b(eliefs), c(ode), as often as they shall come."""
    doc, kind = Document(), rng.choice(kinds)
    if kind == "b":
        return belief_drill(rng, short)
    if kind == "f":
        _, noun, _, _, _, values = rng.choice(FACTS)
        by_value = {}
        for fact in rng.sample(FACTS, len(FACTS)):
            if fact[1] == noun and fact[5] == values:
                by_value.setdefault(fact[4], fact[3])
        options = rng.sample(list(by_value), min(len(by_value), rng.randint(3, 6)))
        doc.add("Options:\n" + "".join(f"{'ABCDEF'[i]}. {o}\n" for i, o in enumerate(options)) + "Answer:")
        for value in rng.sample(options, len(options)):
            doc.add(f" The {noun} of {by_value[value]} is ").add(value, learn=True).add(". The answer is (")
            doc.add("ABCDEF"[options.index(value)], learn=True).add(").")
    elif kind == "s":
        choices = rng.sample(rng.choice((PLACES, ROOMS)), rng.choice((3, 4)))
        doc.add("\n".join(f"{i + 1} - {c}" for i, c in enumerate(choices)) + "\n\n")
        for _ in range(rng.randint(3, 8)):
            place = rng.choice(choices)
            doc.add(f"{rng.choice(PEOPLE)} last " + (f"saw the {rng.choice(OBJECTS)} in" if place in PLACES else "went to"))
            doc.add(f" the {place}.\nANSWER: ").add(str(choices.index(place) + 1), learn=True).add("\n\n")
    else:
        code, given, _, _ = code_item(rng, sums=sums)
        domain = "s" if given[0] == "'" else "l" if given[0] == "[" else "n"
        scope = {}
        exec(code, scope)
        doc.add(code + "\n")
        for _ in range(rng.randint(4, 8)):
            value = random_input(rng, domain)
            if not held_out(code, value):
                doc.add(f"assert f({value!r}) ==").add(f" {scope['f'](value)!r}", learn=True).add("\n")
    return doc


# ---------------------------------------------------------------- mixtures and evaluation sets

FAMILIES = (fact_document, code_document, story_document)


LESSONS = {   # share of drills, their kinds, weights of the families
    0: (0.0, "", (3, 3, 5)),          # what the tokenizer and the texts for perplexity are made of
    1: (0.35, "fssc", (3, 3, 5)),
    2: (0.5, "fccccbbbb", (2, 4, 5)),  # drills what comes slowest; of beliefs it teaches only the places
    3: (0.4, "fccbbb", (2, 4, 5)),     # as lesson 2, but short stories, those of the evaluation set
    4: (0.4, "fccccb", (2, 8, 2)),     # as lesson 3, but mostly code, without sums
    5: (0.3, "fccb", (3, 6, 4)),       # as lesson 4, evenly
}


def documents(rng, test=False, lesson=0):
    """An endless mixture of the three families, and of drills where the lesson has them."""
    drills, kinds, weights = LESSONS[lesson]
    while True:
        if lesson and rng.random() < drills:
            yield drill(rng, kinds, lesson >= 3, lesson < 4)
            continue
        family = rng.choices(FAMILIES, weights=weights)[0]
        if family is story_document and lesson >= 2:
            yield story_document(rng, test, place_only=True, short=lesson >= 3)
        elif family is code_document:
            yield code_document(rng, test, sums=lesson < 4)
        else:
            yield family(rng, test)


def eval_sets(count):
    """Items in the field shapes of the three public benchmarks, all from the held-out side,
    and by set the completions that training would teach for them."""
    rng = random.Random("eval")
    sets = {"mmlu_pro": [], "mmlu_pro_validation": [], "cruxeval": [], "musr": []}
    taught = {"mmlu_pro": [], "musr": []}
    for i, fact in enumerate(rng.sample(FACTS, min(count, len(FACTS)))):
        question, options, index, worked = fact_question(rng, fact, test=True)
        sets["mmlu_pro"].append({"question_id": i, "question": question, "options": options, "answer": "ABCDEF"[index],
                                 "answer_index": index, "category": fact[0], "src": "kquant_world"})
        taught["mmlu_pro"].append(worked)
    for category in RELATIONS:
        for fact in rng.sample(BY_CATEGORY[category], 5):
            question, options, index, worked = fact_question(rng, fact)
            sets["mmlu_pro_validation"].append({
                "question_id": 10000 + len(sets["mmlu_pro_validation"]), "question": question, "options": options,
                "answer": "ABCDEF"[index], "answer_index": index,
                "cot_content": "A: Let's think step by step." + worked, "category": category, "src": "kquant_world"})
    taken = set()
    while len(sets["cruxeval"]) < count:
        code, given, output, _ = code_item(rng, test=True, sums=False)
        if (code, given) not in taken:
            taken.add((code, given))
            sets["cruxeval"].append({"code": code, "input": given, "output": output, "id": f"sample_{len(taken) - 1}"})
    for _ in range(count):
        context, asked, choices = story(rng, test=True, short=True)
        question, worked, answer = asked[0]
        sets["musr"].append({"context": context, "question": question, "choices": choices,
                             "answer": choices.index(answer)})
        taught["musr"].append(f"{worked}\nANSWER: {choices.index(answer) + 1}")
    return sets, taught
