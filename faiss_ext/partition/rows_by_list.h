#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace faiss_ext {

/// Rows by list: rows of list l are order[begin[l] .. begin[l + 1]).
struct RowsByList {
    std::vector<size_t> begin;
    std::vector<size_t> order;

    RowsByList(size_t k, size_t n, const int64_t* lists)
            : begin(k + 1), order(n) {
        for (size_t i = 0; i < n; i++) {
            begin[lists[i] + 1]++;
        }
        std::partial_sum(begin.begin(), begin.end(), begin.begin());
        std::vector<size_t> next(begin.begin(), begin.end() - 1);
        for (size_t i = 0; i < n; i++) {
            order[next[lists[i]]++] = i;
        }
    }

    size_t size(size_t list) const {
        return begin[list + 1] - begin[list];
    }
};

} // namespace faiss_ext
