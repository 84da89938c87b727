/* A model of what searches cost, so that what calibration chooses does not depend
 * on measured times. */

#pragma once

#include <faiss_ext/codes/entry_layout.h>
#include <faiss_ext/kernels/kernels.h>

namespace faiss_ext {

/// What searches do, in all.
struct SearchWork {
    double lists;
    double codes;
    double refined;
    double reranked;
};

/// Nanoseconds of Zen 4 (bench/stages).
inline double search_cost(const EntryLayout& layout, const SearchWork& work) {
    // what a list, a code byte, a rescored row and its bytes cost a query
    constexpr double kListCost = 60;
    constexpr double kCodeByteCost = 0.03;
    constexpr double kRowCost = 30;
    constexpr double kRowByteCost = 0.04;
    // the bytes of a code are those of a list of this many vectors, divided by
    // their number: ten whole blocks
    constexpr size_t kTypicalList = 10 * kernels::kBlockSize;
    const double code_bytes = double(layout.packed().list_bytes(kTypicalList)) /
                              double(kTypicalList);
    auto row = [](size_t bytes) {
        return kRowCost + kRowByteCost * double(bytes);
    };
    return kListCost * work.lists + kCodeByteCost * work.codes * code_bytes +
           work.refined * row(layout.refine_row_bytes()) +
           work.reranked * row(layout.raw_row_bytes());
}

} // namespace faiss_ext
