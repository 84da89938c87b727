#include <faiss_ext/index/append_entries.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/memory/parallel.h>

namespace faiss_ext {

namespace {

/// Entries made before they are appended, which bounds the memory of an add: at
/// most kMaxEntries and kMaxEntryBytes, but enough for a few threads.
constexpr size_t kMaxEntries = 8192;
constexpr size_t kMaxEntryBytes = size_t(8) << 20;
constexpr size_t kMinEntries = 2048;
/// Rows a thread encodes at a time, and runs of rows of one list it appends.
constexpr size_t kEncodeSlice = 128;
constexpr size_t kAppendSlice = 16;
/// For fewer rows than nlist / kFewRowsShare, work on every list would take
/// longer than that on the rows.
constexpr size_t kFewRowsShare = 8;

/// Sorts rows by their lists, in time of rows and lists.
void count_sort(
        size_t nlist,
        size_t n,
        const int64_t* assign,
        std::vector<size_t>& rows) {
    std::vector<size_t> next(nlist + 1);
    for (size_t row : rows) {
        next[assign[row] + 1]++;
    }
    std::partial_sum(next.begin(), next.end(), next.begin());
    for (size_t i = 0; i < n; i++) {
        if (assign[i] >= 0) {
            rows[next[assign[i]]++] = i;
        }
    }
}

/// Where runs of rows of the same list begin, and n.
std::vector<size_t>
runs_of_lists(size_t n, const size_t* rows, const int64_t* assign) {
    std::vector<size_t> runs = {0};
    for (size_t i = 1; i < n; i++) {
        if (assign[rows[i]] != assign[rows[i - 1]]) {
            runs.push_back(i);
        }
    }
    runs.push_back(n);
    return runs;
}

/// Appends the entries of rows of one list. @param run_ids  a buffer
void append_run(
        ScaNNLists& lists,
        size_t list,
        size_t count,
        const size_t* rows,
        const int64_t* ids,
        const uint8_t* entries,
        std::vector<int64_t>& run_ids,
        std::vector<uint64_t>& places) {
    run_ids.resize(count);
    for (size_t i = 0; i < count; i++) {
        run_ids[i] = ids[rows[i]];
    }
    const size_t offset =
            lists.add_entries(list, count, run_ids.data(), entries);
    for (size_t i = 0; i < count; i++) {
        places[rows[i]] = faiss::lo_build(list, offset + i);
    }
}

} // namespace

ListOrder::ListOrder(size_t nlist, size_t n, const int64_t* assign) {
    for (size_t i = 0; i < n; i++) {
        FAISS_THROW_IF_NOT_FMT(
                assign[i] >= -1 && assign[i] < int64_t(nlist),
                "row %zu assigned to list %lld (allowed: -1..%zu)",
                i,
                static_cast<long long>(assign[i]),
                nlist - 1);
        if (assign[i] >= 0) {
            rows.push_back(i);
        }
    }
    if (n < nlist / kFewRowsShare) {
        std::stable_sort(rows.begin(), rows.end(), [&](auto a, auto b) {
            return assign[a] < assign[b];
        });
    } else {
        count_sort(nlist, n, assign, rows);
    }
    for (size_t row : rows) {
        size_t list = size_t(assign[row]);
        if (lists.empty() || lists.back().list != list) {
            lists.push_back({list, 0});
        }
        lists.back().count++;
    }
}

SizesBefore::SizesBefore(ScaNNLists& lists, size_t n, const int64_t* assign)
        : lists_(lists) {
    std::vector<size_t> touched;
    if (n < lists.nlist / kFewRowsShare) {
        std::copy_if(
                assign,
                assign + n,
                std::back_inserter(touched),
                [](int64_t list) { return list >= 0; });
    } else {
        touched.resize(lists.nlist);
        std::iota(touched.begin(), touched.end(), size_t(0));
    }
    for (size_t list : touched) {
        sizes_.push_back({list, lists.list_size(list)});
    }
}

void SizesBefore::restore() {
    for (const ListCount& size : sizes_) {
        lists_.resize(size.list, size.count);
    }
    lists_.release_unused();
}

void append_entries(
        ScaNNLists& lists,
        const ListOrder& order,
        const int64_t* assign,
        const int64_t* ids,
        std::vector<uint64_t>& places,
        const ScaNNProgress& progress,
        const MakeEntries& make) {
    lists.reserve_each(order.lists);
    const size_t total = order.rows.size();
    const size_t size = lists.code_size;
    const size_t most =
            std::clamp(kMaxEntryBytes / size, kMinEntries, kMaxEntries);
    std::vector<uint8_t> entries(std::min(most, total) * size);
    for (size_t chunk = 0; chunk < total; chunk += most) {
        faiss::InterruptCallback::check();
        if (progress) {
            progress("add", chunk, total);
        }
        const size_t n = std::min(most, total - chunk);
        parallel_slices(n, kEncodeSlice, [&](size_t begin, size_t end) {
            make(chunk + begin, chunk + end, entries.data() + begin * size);
        });
        const size_t* rows = &order.rows[chunk];
        const std::vector<size_t> runs = runs_of_lists(n, rows, assign);
        parallel_slices(
                runs.size() - 1, kAppendSlice, [&](size_t first, size_t last) {
                    std::vector<int64_t> run_ids;
                    for (size_t r = first; r < last; r++) {
                        const size_t begin = runs[r];
                        append_run(
                                lists,
                                size_t(assign[rows[begin]]),
                                runs[r + 1] - begin,
                                rows + begin,
                                ids,
                                entries.data() + begin * size,
                                run_ids,
                                places);
                    }
                });
    }
    if (progress) {
        progress("add", total, total);
    }
}

} // namespace faiss_ext
