#include "kquant/eval/perplexity.hpp"
