/* Rows in the layout of the matrix kernel. */

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/partition/panels.h>

#include "fixtures/random_rows.h"

namespace {

using namespace faiss_ext;

constexpr size_t kColumns = 16; // as panels.h says

TEST(Panels, HaveEachRowInItsColumn) {
    for (size_t n : {0, 1, 15, 16, 17, 33}) {
        for (size_t d : {1, 2, 7, 16}) {
            std::vector<float> rows = random_rows::normal(n * d, 1);
            AlignedBuffer<float> panels = make_panels(n, d, rows.data());
            const size_t padded = (n + kColumns - 1) / kColumns * kColumns;
            ASSERT_EQ(panels.size(), padded * d);
            for (size_t j = 0; j < padded; j++) {
                for (size_t i = 0; i < d; i++) {
                    float value =
                            panels[j / kColumns * d * kColumns + i * kColumns +
                                   j % kColumns];
                    ASSERT_EQ(value, j < n ? rows[j * d + i] : 0)
                            << n << ", " << d;
                }
            }
        }
    }
}

TEST(Panels, OfChosenRows) {
    constexpr size_t d = 5;
    std::vector<float> rows = random_rows::normal(9 * d, 1), chosen;
    const std::vector<size_t> which = {8, 0, 0, 3};
    for (size_t row : which) {
        chosen.insert(chosen.end(), &rows[row * d], &rows[row * d] + d);
    }
    AlignedBuffer<float> panels =
            make_panels(which.size(), d, rows.data(), which.data());
    AlignedBuffer<float> expected = make_panels(4, d, chosen.data());
    ASSERT_EQ(panels.size(), expected.size());
    EXPECT_TRUE(std::equal(
            panels.data(), panels.data() + panels.size(), expected.data()));
}

TEST(RoundUp, ToTheNextMultiple) {
    EXPECT_EQ(round_up(0, 16), 0u);
    EXPECT_EQ(round_up(1, 16), 16u);
    EXPECT_EQ(round_up(16, 16), 16u);
    EXPECT_EQ(round_up(17, 16), 32u);
    EXPECT_EQ(round_up(10, 3), 12u);
}

} // namespace
