#include "eval/musr_hints.hpp"

#include <array>

namespace kquant {
namespace {

struct Domain {
  std::string_view hint;
  MusrItem example;
};

const std::array<Domain, 3>& domains() {
  static const std::array<Domain, 3> kDomains = {
      {{"A murderer has all three of a means (the weapon was within reach), a motive (a reason to "
        "want the victim dead) and an opportunity (they could be where it happened). Somebody who "
        "is innocent may have one or two of these, or seem suspicious for another reason, but has "
        "not all three. Should the story seem to give all three to both suspects or to neither, "
        "take the one for whom they are established better.",
        {"",
         "Old Harald was found in his boathouse, killed with a boat hook. His niece Ida stood "
         "to inherit the boats and had told the baker that she could not wait much longer. She "
         "repaired nets in the boathouse every evening, that evening too, among the hooks that "
         "hung there. The ferryman Olaf kept hooks of the same make on his ferry, and he was "
         "seen mooring at the boathouse at dusk. He and Harald had been friends for forty "
         "years; people say that he wept.",
         "Who is the most likely murderer?",
         "murder mysteries",
         {"Olaf", "Ida"},
         1,
         "Means: hooks hung where Ida worked, and Olaf had hooks on his ferry. Opportunity: Ida "
         "was in the boathouse that evening, and Olaf moored there at dusk. Motive: Ida was to "
         "inherit and was impatient. Nothing gives Olaf a reason to kill a friend. Only Ida has "
         "all three.\nANSWER: 2"}},
       {"People believe a thing to be where they last saw it, or saw it being put. They do not see "
        "a move that happens while they are away or busy with something else. The question is "
        "where somebody believes the thing to be, which need not be where it is. If the story does "
        "not say that a person could see a move, take it that they could not.",
        {"",
         "Everybody knew that the stamp was in the drawer. Lena took it to the shelf while Paul "
         "was across the room, watching her over his cup. Then Paul went to meet the postman at "
         "the gate, and talked for a while. Meanwhile Lena used the stamp and left it in the "
         "basket. When Paul came back, he wanted the stamp.",
         "Which location is the most likely place Paul would look to find the stamp given the "
         "story?",
         "object placements",
         {"basket", "drawer", "shelf"},
         2,
         "At first Paul believes the stamp to be in the drawer. He watches Lena put it on the "
         "shelf, so he believes that it is there. He is at the gate when she leaves it in the "
         "basket, and does not see that. He still believes that it is on the shelf.\nANSWER: 3"}},
       {"Each person is bad, fair or good at each task, and each two people work together badly, "
        "fairly or well. What an allocation is worth is a sum: how good the one who works alone is "
        "at that task, how good each of the other two is at theirs, and how well these two work "
        "together. Find out these from the story, add them up for every choice and take the "
        "largest.",
        {"",
         "The kitchen needs one cook and two servers out of Nora, Emil and Ruth. Nora has cooked "
         "for large parties and praises herself for it with reason, but guests find her short. "
         "Emil burns water; he remembers the name of every guest. Ruth cooks passably and "
         "serves gladly. Emil and Ruth finish each other's sentences, while Nora and Emil have "
         "not spoken since the spring, and Nora and Ruth get by.",
         "Given the story, how would you uniquely allocate each person to make sure both tasks are "
         "accomplished efficiently?",
         "team allocations",
         {"Cooking: Nora, Serving: Emil and Ruth", "Cooking: Ruth, Serving: Emil and Nora",
          "Cooking: Emil, Serving: Nora and Ruth"},
         0,
         "Say bad is 1, fair 2, good 3. Cooking: Nora 3, Emil 1, Ruth 2. Serving: Nora 1, Emil 3, "
         "Ruth 3. Together: Emil and Ruth 3, Nora and Emil 1, Nora and Ruth 2. First choice: 3 + "
         "3 + 3 + 3 = 12. Second: 2 + 3 + 1 + 1 = 7. Third: 1 + 1 + 3 + 2 = 7. The first is "
         "best.\nANSWER: 1"}}}};
  return kDomains;
}

const Domain* find(std::string_view domain) {
  for (const Domain& known : domains())
    if (known.example.domain == domain) return &known;
  return nullptr;
}

}  // namespace

std::string_view musr_hint(std::string_view domain) {
  const Domain* const known = find(domain);
  return known ? known->hint : std::string_view();
}

const MusrItem* musr_example(std::string_view domain) {
  const Domain* const known = find(domain);
  return known ? &known->example : nullptr;
}

}  // namespace kquant
