/*
 * Random histories of all operations on all kinds of index, beside a
 * dictionary and brute force, with failures injected: what they do,
 * history_operations.h; what is asked, history_checks.h.
 *
 * SCANN_HISTORY_STEPS=<n> makes each history that long: of 8000, they are over
 * 10^5 operations together.
 */

#include <cstdlib>

#include "fixtures/history_checks.h"
#include "fixtures/sanitizers.h"

namespace {

using namespace histories;

#if FAISS_EXT_ADDRESS_SANITIZER
constexpr size_t kSteps = 100;
#else
constexpr size_t kSteps = 300;
#endif

size_t steps() {
    const char* wanted = std::getenv("SCANN_HISTORY_STEPS");
    return wanted != nullptr ? std::strtoul(wanted, nullptr, 10) : kSteps;
}

class HistoryTest : public testing::TestWithParam<Kind> {};

TEST_P(HistoryTest, IsThatOfADictionary) {
    History history(GetParam(), 11);
    for (size_t i = 0; i < steps() && !HasFailure(); i++) {
        SCOPED_TRACE("step " + std::to_string(i));
        history.step();
        if (i % 20 == 0) {
            history.check();
        }
    }
    history.check();
    history.check_recall();
    history.check_versions();
    EXPECT_GE(history.failures(), steps() / 50);
    EXPECT_GE(history.refusals(), steps() / 1000);
    EXPECT_FALSE(history.unmoved());
}

constexpr auto kIP = faiss::METRIC_INNER_PRODUCT;

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        HistoryTest,
        testing::Values(
                Kind{"IVF8,ScaNN,RFlat", kL2, 1, 0},
                Kind{"IVF8,ScaNN,RFlat", kIP, 1, 0},
                Kind{"IVF8,ScaNN,SQ8,RFlat", kL2, 1, 0},
                Kind{"IVF8,ScaNN(soar_lambda=1),RFlat", kIP, 1, 0},
                Kind{"IVF8,ScaNN(soar_lambda=1.5),SQ8,RFlat", kL2, 1, 0},
                Kind{"IVF8,ScaNN", kL2, .6, .6},
                Kind{"IVF8,ScaNN(soar_lambda=1)", kIP, .6, .6},
                Kind{"IVF8,ScaNN,SQ8", kIP, .9, .01},
                Kind{"IVF8,ScaNN(soar_lambda=1),SQ8", kL2, .9, .01},
                Kind{"IVF8,ScaNN7x4,SQfp16", kL2, .99, 1e-3},
                Kind{"IVF8,ScaNN,SQbf16", kIP, .9, 1e-2},
                Kind{"IVF8,ScaNN(normalize=1),RFlat", kIP, .99, 1e-5},
                Kind{"ScaNN,RFlat", kL2, 1, 0},
                Kind{"IVF8_HNSW8,ScaNN,RFlat", kL2, .99, 0, false},
                Kind{"L2norm,IVF8,ScaNN,SQ8,RFlat", kIP, .99, 1e-5},
                Kind{"PCA16,IVF8,ScaNN,RFlat", kL2, .99, 1e-4},
                Kind{"IDMap2,IVF8,ScaNN,RFlat", kL2, 1, 0},
                Kind{"IVF40,ScaNN(soar_lambda=1,tags=1),RFlat", kL2, 1, 0},
                Kind{"IVF40,ScaNN(soar_lambda=1),RFlat", kL2, 1, 0},
                Kind{"IVF8,ScaNN,RFlat", kL2, 1, 0, true, true},
                Kind{"IVF8,ScaNN(soar_lambda=1),SQ8,RFlat",
                     kIP,
                     1,
                     0,
                     true,
                     true},
                Kind{"IVF40,ScaNN(soar_lambda=1,tags=1),RFlat",
                     kL2,
                     1,
                     0,
                     true,
                     true},
                Kind{"IVF8,ScaNN", kL2, .6, .6, true, true},
                Kind{"IVF8,ScaNN,SQ8", kIP, .9, .01, true, true}),
        [](const auto& info) {
            std::string name = info.param.description;
            name += info.param.metric == kIP ? "IP" : "L2";
            name += info.param.versions ? "Versions" : "";
            std::erase_if(name, [](char c) { return !std::isalnum(c); });
            return name;
        });

} // namespace
