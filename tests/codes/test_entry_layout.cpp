/* Where an entry has its parts: one after the other, as its header draws them. */

#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/codes/entry_layout.h>

#include "fixtures/lists_model.h"

namespace {

using namespace faiss_ext;

size_t bytes_of(RefineType type) {
    switch (type) {
        case RefineType::None:
            return 0;
        case RefineType::Int8:
            return 1;
        default:
            return 2;
    }
}

size_t bytes_of(RowType type) {
    switch (type) {
        case RowType::Float32:
            return 4;
        case RowType::FP16:
        case RowType::BF16:
            return 2;
        default:
            return 1;
    }
}

TEST(EntryLayout, PartsFollowOneAnother) {
    for (const EntryLayout& layout : lists_model::all_layouts()) {
        size_t at = (layout.M + 1) / 2;
        EXPECT_EQ(layout.code_bytes(), at);
        EXPECT_EQ(layout.term_offset(), at);
        at += layout.has_term ? 2 : 0;
        EXPECT_EQ(layout.refine_offset(), at);
        const size_t values = layout.d * bytes_of(layout.refine_type);
        EXPECT_EQ(layout.refine_value_bytes(), values);
        at += values == 0 ? 0 : values + 8; // scale and shift
        EXPECT_EQ(layout.raw_offset(), at);
        EXPECT_EQ(layout.refine_row_bytes(), at - layout.refine_offset());
        at += layout.with_raw_data ? layout.d * bytes_of(layout.raw_type) : 0;
        EXPECT_EQ(layout.raw_offset() + layout.raw_value_bytes(), at);
        at += layout.raw_norm ? 4 : 0;
        EXPECT_EQ(layout.primary_offset(), at);
        EXPECT_EQ(layout.raw_row_bytes(), at - layout.raw_offset());
        at += layout.has_primary ? 8 : 0;
        EXPECT_EQ(layout.size(), at);
        EXPECT_EQ(layout.packed().M, layout.M);
        EXPECT_EQ(layout.packed().has_term, layout.has_term);
    }
}

TEST(EntryLayout, CopiesHaveCodesAndAPlace) {
    for (const EntryLayout& layout : lists_model::all_layouts()) {
        EntryLayout copies = layout.of_copies();
        EXPECT_EQ(copies.refine_offset(), layout.refine_offset());
        EXPECT_EQ(copies.size(), layout.refine_offset() + 8);
        EXPECT_EQ(copies.of_copies(), copies);
    }
}

} // namespace
