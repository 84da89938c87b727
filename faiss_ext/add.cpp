/*
 * Adding rows: assign -> encode -> append. Everything that can fail comes
 * before the first change, or is undone.
 */

#include <algorithm>
#include <cstring>
#include <memory>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/codec.h>
#include <faiss_ext/parallel.h>
#include <faiss_ext/query_rows.h>

namespace faiss_ext {

namespace {

/// Rows encoded before they are appended; bounds the memory of an add.
constexpr size_t kChunk = 8192;
/// Rows a thread encodes at a time.
constexpr size_t kEncodeSlice = 128;

/// Rows in the order of their lists; rows of list -1 are left out.
struct ListOrder {
    std::vector<size_t> counts; ///< rows per list
    std::vector<size_t> rows;

    ListOrder(size_t nlist, size_t n, const int64_t* assign) : counts(nlist) {
        for (size_t i = 0; i < n; i++) {
            FAISS_THROW_IF_NOT_FMT(
                    assign[i] >= -1 && assign[i] < int64_t(nlist),
                    "row %zu assigned to list %lld (allowed: -1..%zu)",
                    i,
                    static_cast<long long>(assign[i]),
                    nlist - 1);
            if (assign[i] >= 0) {
                counts[assign[i]]++;
            }
        }
        std::vector<size_t> next(nlist + 1);
        for (size_t l = 0; l < nlist; l++) {
            next[l + 1] = next[l] + counts[l];
        }
        rows.resize(next[nlist]);
        for (size_t i = 0; i < n; i++) {
            if (assign[i] >= 0) {
                rows[next[assign[i]]++] = i;
            }
        }
    }
};

std::vector<size_t> list_sizes(const ScaNNLists& lists) {
    std::vector<size_t> sizes(lists.nlist);
    for (size_t l = 0; l < lists.nlist; l++) {
        sizes[l] = lists.list_size(l);
    }
    return sizes;
}

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
    lists.reserve(order.counts);
    const std::vector<size_t>& rows = order.rows;
    std::vector<uint8_t> entries(
            std::min(kChunk, rows.size()) * lists.code_size);
    for (size_t chunk = 0; chunk < rows.size(); chunk += kChunk) {
        faiss::InterruptCallback::check();
        if (progress) {
            progress("add", chunk, rows.size());
        }
        size_t n = std::min(kChunk, rows.size() - chunk);
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

void truncate(ScaNNLists& lists, const std::vector<size_t>& sizes) {
    for (size_t l = 0; l < lists.nlist; l++) {
        lists.resize(l, sizes[l]);
    }
}

} // namespace

void IndexIVFScaNN::add(idx_t n, const float* x) {
    add_with_ids(n, x, nullptr);
}

void IndexIVFScaNN::add_with_ids(idx_t n, const float* x, const idx_t* ids) {
    check_trained();
    std::vector<float> unit;
    const float* rows = checked(n, x, "row", unit);
    std::vector<idx_t> assign(n);
    if (spilled_ == nullptr || !quantizer_is_flat_) {
        assign_lists(n, rows, assign.data());
        add_assigned(n, x, rows, ids, assign.data(), nullptr);
        return;
    }
    std::vector<idx_t> second(n);
    partition_.assign_both(
            n, rows, options.soar_lambda, assign.data(), second.data());
    add_assigned(n, x, rows, ids, assign.data(), second.data());
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

void IndexIVFScaNN::add_assigned(
        idx_t n,
        const float* x,
        const float* rows,
        const idx_t* ids,
        const idx_t* assign,
        const idx_t* second) {
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
    store(n,
          ids,
          assign,
          [&](std::vector<uint64_t>& places, const idx_t* stored_ids) {
              append_entries(
                      mutable_lists(),
                      order,
                      assign,
                      stored_ids,
                      places,
                      progress,
                      [&](size_t begin, size_t end, uint8_t* entries) {
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
              std::vector<uint64_t> spilled_places(n);
              append_entries(
                      *spilled_,
                      spilled_order,
                      second,
                      stored_ids,
                      spilled_places,
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
    if (spilled_ != nullptr) {
        // A copy needs the vector, so the decoded one goes the way of every
        // other row; what is stored of it is then put right.
        std::vector<float> x(n * d);
        std::vector<idx_t> assign(n);
        sa_decode(n, codes, x.data());
        for (idx_t i = 0; i < n; i++) {
            assign[i] = decode_listno(codes + i * sa_code_size());
        }
        std::vector<size_t> next = list_sizes(lists());
        add_core(n, x.data(), ids, assign.data());
        for (idx_t i = 0; i < n; i++) {
            size_t at = next[assign[i]]++;
            idx_t id = lists().get_single_id(assign[i], at);
            mutable_lists().update_entries(
                    assign[i],
                    at,
                    1,
                    &id,
                    codes + i * sa_code_size() + coarse_code_size());
        }
        return;
    }
    size_t stride = sa_code_size();
    std::vector<idx_t> assign(n);
    for (idx_t i = 0; i < n; i++) {
        assign[i] = decode_listno(codes + i * stride);
    }
    ListOrder order(nlist, n, assign.data());
    store(n,
          ids,
          assign.data(),
          [&](std::vector<uint64_t>& places, const idx_t* stored_ids) {
              append_entries(
                      mutable_lists(),
                      order,
                      assign.data(),
                      stored_ids,
                      places,
                      progress,
                      [&](size_t begin, size_t end, uint8_t* entries) {
                          for (size_t i = begin; i < end; i++) {
                              const uint8_t* entry = codes +
                                                     order.rows[i] * stride +
                                                     coarse_code_size();
                              std::copy_n(entry, code_size, entries);
                              entries += code_size;
                          }
                      });
          });
}

/** Runs `append` with the ids to store; on an exception the lists and the
 * direct map are as before. */
void IndexIVFScaNN::store(
        idx_t n,
        const idx_t* ids,
        const idx_t* assign,
        const std::function<
                void(std::vector<uint64_t>& places, const idx_t* ids)>&
                append) {
    direct_map.check_can_add(ids);
    std::vector<idx_t> running;
    if (ids == nullptr) {
        running.resize(n);
        for (idx_t i = 0; i < n; i++) {
            running[i] = ntotal + i;
        }
        ids = running.data();
    }
    std::vector<size_t> sizes = list_sizes(lists());
    std::vector<size_t> spilled_sizes;
    if (spilled_ != nullptr) {
        spilled_sizes = list_sizes(*spilled_);
    }
    try {
        std::vector<uint64_t> places(n);
        append(places, ids);
        for (idx_t i = 0; i < n; i++) {
            idx_t list = assign[i] < 0 ? -1 : faiss::lo_listno(places[i]);
            direct_map.add_single_id(ids[i], list, faiss::lo_offset(places[i]));
        }
    } catch (...) {
        truncate(mutable_lists(), sizes);
        if (spilled_ != nullptr) {
            truncate(*spilled_, spilled_sizes);
        }
        rebuild_direct_map();
        throw;
    }
    ntotal += n;
}

} // namespace faiss_ext
