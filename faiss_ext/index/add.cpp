/*
 * Adding rows: assign -> encode -> append. Everything that can fail comes
 * before the first change, or is undone.
 */

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/codec.h>
#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/query_rows.h>

namespace faiss_ext {

namespace {

/// Entries made before they are appended; bounds the memory of an add: so
/// many, fewer if they take more bytes, but enough for some threads.
constexpr size_t kMostEntries = 8192;
constexpr size_t kMostEntryBytes = size_t(8) << 20;
constexpr size_t kLeastEntries = 2048;
/// Rows a thread encodes at a time.
constexpr size_t kEncodeSlice = 128;

/// Rows in the order of their lists; rows of list -1 are left out.
struct ListOrder {
    std::vector<size_t> rows;
    std::vector<ListCount> lists; ///< those that get rows

    ListOrder(size_t nlist, size_t n, const int64_t* assign) {
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
        // few rows: in time that does not depend on the number of lists
        if (n < nlist / 8) {
            std::stable_sort(rows.begin(), rows.end(), [&](auto a, auto b) {
                return assign[a] < assign[b];
            });
        } else {
            count_sort(nlist, n, assign);
        }
        for (size_t row : rows) {
            size_t list = size_t(assign[row]);
            if (lists.empty() || lists.back().list != list) {
                lists.push_back({list, 0});
            }
            lists.back().count++;
        }
    }

 private:
    void count_sort(size_t nlist, size_t n, const int64_t* assign) {
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
};

/// The sizes of the lists that rows go to, to put them back.
class SizesBefore {
 public:
    /// @param assign  list of each row, or -1
    SizesBefore(ScaNNLists& lists, size_t n, const int64_t* assign)
            : lists_(lists) {
        std::vector<size_t> touched;
        if (n < lists.nlist / 8) {
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
    void restore() {
        for (const ListCount& size : sizes_) {
            lists_.resize(size.list, size.count);
        }
        lists_.release_unused();
    }

 private:
    ScaNNLists& lists_;
    std::vector<ListCount> sizes_;
};

/** Appends entries list by list, in parallel. make(begin, end, entries)
 * writes the entries of positions [begin, end) of `order.rows`.
 * @param places  out, list << 32 | offset of each row, size of all rows */
template <class Make>
void append_entries(
        ScaNNLists& lists,
        const ListOrder& order,
        const int64_t* assign,
        const int64_t* ids,
        std::vector<uint64_t>& places,
        const ScaNNProgress& progress,
        Make&& make) {
    lists.reserve_each(order.lists);
    const std::vector<size_t>& rows = order.rows;
    const size_t most = std::clamp(
            kMostEntryBytes / lists.code_size, kLeastEntries, kMostEntries);
    std::vector<uint8_t> entries(std::min(most, rows.size()) * lists.code_size);
    for (size_t chunk = 0; chunk < rows.size(); chunk += most) {
        faiss::InterruptCallback::check();
        if (progress) {
            progress("add", chunk, rows.size());
        }
        size_t n = std::min(most, rows.size() - chunk);
        parallel_slices(n, kEncodeSlice, [&](size_t begin, size_t end) {
            make(chunk + begin,
                 chunk + end,
                 entries.data() + begin * lists.code_size);
        });
        // Runs of rows of the same list.
        std::vector<size_t> runs = {0};
        for (size_t i = 1; i < n; i++) {
            if (assign[rows[chunk + i]] != assign[rows[chunk + i - 1]]) {
                runs.push_back(i);
            }
        }
        runs.push_back(n);
        parallel_slices(runs.size() - 1, 16, [&](size_t first, size_t last) {
            std::vector<int64_t> run_ids;
            for (size_t r = first; r < last; r++) {
                size_t begin = runs[r];
                size_t count = runs[r + 1] - begin;
                const size_t* row = rows.data() + chunk + begin;
                run_ids.resize(count);
                for (size_t i = 0; i < count; i++) {
                    run_ids[i] = ids[row[i]];
                }
                size_t list = assign[row[0]];
                size_t offset = lists.add_entries(
                        list,
                        count,
                        run_ids.data(),
                        entries.data() + begin * lists.code_size);
                for (size_t i = 0; i < count; i++) {
                    places[row[i]] = faiss::lo_build(list, offset + i);
                }
            }
        });
    }
    if (progress) {
        progress("add", rows.size(), rows.size());
    }
}

/// The entries of some of the rows that sa_encode() made codes of.
void gather_entries(
        const IndexIVFScaNN& index,
        const uint8_t* codes,
        const size_t* rows,
        size_t n,
        uint8_t* entries) {
    const size_t stride = index.sa_code_size();
    for (size_t i = 0; i < n; i++) {
        const uint8_t* entry =
                codes + rows[i] * stride + index.coarse_code_size();
        std::copy_n(entry, index.code_size, entries + i * index.code_size);
    }
}

} // namespace

void IndexIVFScaNN::add(idx_t n, const float* x) {
    add_with_ids(n, x, nullptr);
}

void IndexIVFScaNN::add_with_ids(idx_t n, const float* x, const idx_t* ids) {
    add_rows(n, x, ids);
}

std::vector<uint64_t>
IndexIVFScaNN::add_rows(idx_t n, const float* x, const idx_t* ids) {
    check_trained();
    std::vector<float> unit;
    const float* rows = checked(n, x, "row", unit);
    std::vector<idx_t> assign(n);
    if (spilled_ == nullptr || !quantizer_is_flat_) {
        assign_lists(n, rows, assign.data());
        return add_assigned(n, x, rows, ids, assign.data(), nullptr);
    }
    std::vector<idx_t> second(n);
    partition_.assign_both(
            n, rows, options.soar_lambda, assign.data(), second.data());
    return add_assigned(n, x, rows, ids, assign.data(), second.data());
}

void IndexIVFScaNN::add_core(
        idx_t n,
        const float* x,
        const idx_t* ids,
        const idx_t* assign
#if FAISS_EXT_FAISS_VERSION >= 10800
        ,
        void* inverted_list_context
#endif
) {
#if FAISS_EXT_FAISS_VERSION >= 10800
    FAISS_THROW_IF_NOT_MSG(
            inverted_list_context == nullptr,
            "inverted_list_context is not used by this index");
#endif
    check_trained();
    std::vector<float> unit;
    const float* rows = checked(n, x, "row", unit);
    add_assigned(n, x, rows, ids, assign, nullptr);
}

std::vector<uint64_t> IndexIVFScaNN::add_assigned(
        idx_t n,
        const float* x,
        const float* rows,
        const idx_t* ids,
        const idx_t* assign,
        const idx_t* second,
        const uint8_t* codes) {
    ListOrder order(nlist, n, assign);
    std::vector<idx_t> found; // second lists
    if (spilled_ != nullptr && second == nullptr) {
        found.resize(n);
        partition_.assign_spilled(
                n, rows, assign, options.soar_lambda, found.data());
        second = found.data();
    }
    EntryCodec entry_codec = codec();
    auto encode = [&](const EntryCodec& by,
                      const std::vector<size_t>& which,
                      const idx_t* lists_of,
                      size_t begin,
                      size_t end,
                      uint8_t* entries) {
        size_t count = end - begin;
        std::vector<idx_t> slice_lists(count);
        for (size_t i = 0; i < count; i++) {
            slice_lists[i] = lists_of[which[begin + i]];
        }
        auto gather = [&](const float* from) {
            auto to = std::make_unique_for_overwrite<float[]>(count * d);
            for (size_t i = 0; i < count; i++) {
                std::copy_n(from + which[begin + i] * d, d, to.get() + i * d);
            }
            return to;
        };
        std::unique_ptr<float[]> slice = gather(rows);
        std::unique_ptr<float[]> raw; // where the rows are normalized
        if (by.layout.with_raw_data && rows != x) {
            raw = gather(x);
        }
        std::vector<float> centroids = centroids_of(count, slice_lists.data());
        by.encode(
                count,
                slice.get(),
                raw ? raw.get() : slice.get(),
                centroids.data(),
                entries);
    };
    return store(
            n,
            ids,
            assign,
            second,
            [&](std::vector<uint64_t>& places,
                std::vector<uint64_t>& copies,
                const idx_t* stored_ids) {
                append_entries(
                        mutable_lists(),
                        order,
                        assign,
                        stored_ids,
                        places,
                        progress,
                        [&](size_t begin, size_t end, uint8_t* entries) {
                            if (codes != nullptr) {
                                gather_entries(
                                        *this,
                                        codes,
                                        &order.rows[begin],
                                        end - begin,
                                        entries);
                                return;
                            }
                            encode(entry_codec,
                                   order.rows,
                                   assign,
                                   begin,
                                   end,
                                   entries);
                        });
                if (spilled_ == nullptr) {
                    return;
                }
                ListOrder spilled_order(nlist, n, second);
                EntryCodec spilled_codec{
                        spilled_->layout(), trained_, keeps_rows()};
                append_entries(
                        *spilled_,
                        spilled_order,
                        second,
                        stored_ids,
                        copies,
                        nullptr,
                        [&](size_t begin, size_t end, uint8_t* entries) {
                            encode(spilled_codec,
                                   spilled_order.rows,
                                   second,
                                   begin,
                                   end,
                                   entries);
                            const EntryLayout& layout = spilled_->layout();
                            for (size_t i = begin; i < end; i++) {
                                std::memcpy(
                                        entries + (i - begin) * layout.size() +
                                                layout.primary_offset(),
                                        &places[spilled_order.rows[i]],
                                        sizeof(uint64_t));
                            }
                        });
            });
}

void IndexIVFScaNN::add_sa_codes(
        idx_t n,
        const uint8_t* codes,
        const idx_t* ids) {
    check_trained();
    std::vector<idx_t> assign(n);
    for (idx_t i = 0; i < n; i++) {
        assign[i] = list_of_code(
                codes, size_t(i), sa_code_size(), coarse_code_size(), nlist);
    }
    // A spilled copy needs the vector: it is made of the decoded one.
    std::vector<float> x, unit;
    const float* rows = nullptr;
    if (spilled_ != nullptr) {
        x.resize(n * d);
        sa_decode(n, codes, x.data());
        rows = checked(n, x.data(), "row", unit);
    }
    add_assigned(n, x.data(), rows, ids, assign.data(), nullptr, codes);
}

/** Runs `append` with the ids to store; on an exception all is as before.
 * @param second  lists of the spilled copies, or nullptr
 * @return        places of the rows, kNowhere for those of list -1 */
std::vector<uint64_t> IndexIVFScaNN::store(
        idx_t n,
        const idx_t* ids,
        const idx_t* assign,
        const idx_t* second,
        const std::function<
                void(std::vector<uint64_t>& places,
                     std::vector<uint64_t>& copies,
                     const idx_t* ids)>& append) {
    drop_unfit_map();
    direct_map.check_can_add(ids);
    std::vector<idx_t> running;
    if (ids == nullptr) {
        running.resize(n);
        std::iota(running.begin(), running.end(), ntotal);
        ids = running.data();
    }
    std::vector<uint64_t> places(n, kNowhere);
    std::vector<uint64_t> copies(second == nullptr ? 0 : n, kNowhere);
    SizesBefore before(mutable_lists(), n, assign);
    std::optional<SizesBefore> copies_before;
    if (second != nullptr) {
        copies_before.emplace(*spilled_, n, second);
    }
    MapAddition in_map(direct_map);
    try {
        append(places, copies, ids);
        in_map.add(n, ids, places.data());
        for (size_t i = 0; i < copies.size() && copy_places_; i++) {
            if (copies[i] != kNowhere) {
                copy_places_->set(places[i], copies[i]);
            }
        }
    } catch (...) {
        in_map.undo();
        before.restore();
        if (copies_before) {
            copies_before->restore();
        }
        copy_places_.reset();
        throw;
    }
    ntotal += n;
    return places;
}

} // namespace faiss_ext
