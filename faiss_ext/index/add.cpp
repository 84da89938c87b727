/*
 * Adding rows: assign -> encode -> append. Everything that can fail comes
 * before the first change, or is undone.
 */

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/add.h>
#include <faiss_ext/index/append_entries.h>
#include <faiss_ext/index/maintain.h>
#include <faiss_ext/index/tags.h>
#include <faiss_ext/model/codec.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/partition/grouped_nearest.h>

namespace faiss_ext {

namespace {

/// Floats of rows that are checked and get their lists at a time: copies of
/// them, of other types or scaled, take 16 MB.
constexpr size_t kPrepareFloats = size_t(4) << 20;
/// But so many rows a list where lists are found by groups, which are made anew
/// each time.
constexpr size_t kPreparePerList = 8;

/// Rows to be added.
struct RowsToAdd {
    size_t n;
    TypedRows rows;                 ///< as given
    const uint8_t* codes = nullptr; ///< theirs, from sa_encode(), or nullptr
    size_t first = 0;               ///< number of the first, for messages
    const int64_t* tags = nullptr;  ///< size n, or nullptr: 0
};

/// Encodes rows which[begin] .. which[end - 1]. @param list_of  of each row
void encode_rows(
        const IndexState& state,
        const EntryCodec& codec,
        const TypedRows& rows,
        const std::vector<size_t>& which,
        const int64_t* list_of,
        size_t begin,
        size_t end,
        uint8_t* entries) {
    const size_t d = state.d();
    const size_t count = end - begin;
    std::vector<int64_t> lists(count);
    for (size_t i = 0; i < count; i++) {
        lists[i] = list_of[which[begin + i]];
    }
    auto raw = std::make_unique_for_overwrite<float[]>(count * d);
    rows.gather(count, &which[begin], raw.get());
    std::vector<float> scaled;
    const float* prepared =
            scaled_rows(count, d, raw.get(), row_scale(state), scaled);
    std::vector<float> centroids = centroids_of(state, count, lists.data());
    codec.encode(count, prepared, raw.get(), centroids.data(), entries);
}

/** Checks and prepares all rows, some at a time, so that their copies take
 * little memory: visit(begin, count, prepared rows).
 * @throws faiss::FaissException naming a row that the index does not take */
template <class Visit>
void visit_prepared(
        const IndexState& state,
        const RowsToAdd& from,
        Visit&& visit) {
    const size_t d = state.d();
    std::vector<float> floats, scaled;
    const size_t most = rows_at_a_time(state.ivf.nlist, d);
    for (size_t begin = 0; begin < from.n; begin += most) {
        faiss::InterruptCallback::check();
        const size_t count = std::min(most, from.n - begin);
        const float* x = from.rows.floats(begin, count, floats);
        const size_t number = from.first + begin;
        const float* prepared =
                prepare_rows(state, count, x, "row", scaled, number);
        if (from.rows.type != state.options.raw_type) {
            check_held(state.options.raw_type, count, d, x, "row", number);
        }
        visit(begin, count, prepared);
    }
}

/// The entries of some rows, from their codes of sa_encode().
void gather_entries(
        const faiss::IndexIVF& index,
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

/** Runs `append` with the ids to store; on an exception all is as before.
 * @param second  lists of the spilled copies, or nullptr
 * @return        places of the rows, kNowhere for those of list -1 */
template <class Append>
std::vector<uint64_t> store(
        IndexIVFScaNN& index,
        size_t n,
        const int64_t* ids,
        const int64_t* assign,
        const int64_t* second,
        Append&& append) {
    IndexState& state = index.state();
    drop_unfit_map(index.direct_map, *state.lists, size_t(index.ntotal));
    index.direct_map.check_can_add(ids);
    std::vector<int64_t> running;
    if (ids == nullptr) {
        running.resize(n);
        std::iota(running.begin(), running.end(), index.ntotal);
        ids = running.data();
    }
    std::vector<uint64_t> places(n, kNowhere);
    std::vector<uint64_t> copies(second == nullptr ? 0 : n, kNowhere);
    SizesBefore before(*state.lists, n, assign);
    std::optional<SizesBefore> copies_before;
    if (second != nullptr) {
        copies_before.emplace(*state.spilled, n, second);
    }
    MapAddition in_map(index.direct_map);
    try {
        append(places, copies, ids);
        in_map.add(n, ids, places.data());
        for (size_t i = 0; i < copies.size() && state.copy_places; i++) {
            if (copies[i] != kNowhere) {
                state.copy_places->set(places[i], copies[i]);
            }
        }
    } catch (...) {
        in_map.undo();
        before.restore();
        if (copies_before) {
            copies_before->restore();
        }
        state.copy_places.reset();
        throw;
    }
    index.ntotal += int64_t(n);
    state.fit.changed += n;
    return places;
}

/// Puts the tags of rows which[begin] .. which[end - 1] into their entries.
void put_tags(
        const EntryLayout& layout,
        const int64_t* tags,
        const std::vector<size_t>& which,
        size_t begin,
        size_t end,
        uint8_t* entries) {
    for (size_t i = begin; i < end; i++) {
        std::memcpy(
                entries + (i - begin) * layout.size() + layout.tag_offset(),
                &tags[which[i]],
                sizeof(int64_t));
    }
}

/// Appends the entries of rows to their lists.
void append_primary(
        IndexIVFScaNN& index,
        const RowsToAdd& from,
        const ListOrder& order,
        const int64_t* assign,
        const int64_t* ids,
        std::vector<uint64_t>& places) {
    const IndexState& state = index.state();
    const EntryCodec codec = state.codec();
    append_entries(
            *state.lists,
            order,
            assign,
            ids,
            places,
            index.progress,
            [&](size_t begin, size_t end, uint8_t* entries) {
                if (from.codes == nullptr) {
                    encode_rows(
                            state,
                            codec,
                            from.rows,
                            order.rows,
                            assign,
                            begin,
                            end,
                            entries);
                    if (from.tags != nullptr) {
                        put_tags(
                                codec.layout,
                                from.tags,
                                order.rows,
                                begin,
                                end,
                                entries);
                    }
                } else {
                    gather_entries(
                            index,
                            from.codes,
                            &order.rows[begin],
                            end - begin,
                            entries);
                }
            });
}

/// Appends the spilled copies of rows to their second lists.
/// @param places  of the rows themselves; @param copies  out
void append_copies(
        IndexIVFScaNN& index,
        const RowsToAdd& from,
        const int64_t* second,
        const int64_t* ids,
        const std::vector<uint64_t>& places,
        std::vector<uint64_t>& copies) {
    const IndexState& state = index.state();
    const ListOrder order(index.nlist, from.n, second);
    const EntryCodec codec = state.spilled_codec();
    const EntryLayout& layout = codec.layout;
    append_entries(
            *state.spilled,
            order,
            second,
            ids,
            copies,
            nullptr,
            [&](size_t begin, size_t end, uint8_t* entries) {
                encode_rows(
                        state,
                        codec,
                        from.rows,
                        order.rows,
                        second,
                        begin,
                        end,
                        entries);
                for (size_t i = begin; i < end; i++) {
                    std::memcpy(
                            entries + (i - begin) * layout.size() +
                                    layout.primary_offset(),
                            &places[order.rows[i]],
                            sizeof(uint64_t));
                }
            });
}

/** @param order   of the rows by their lists
 *  @param second  lists of the spilled copies, -1: none; with spilled copies
 *  @return        as store() */
std::vector<uint64_t> add_assigned(
        IndexIVFScaNN& index,
        const RowsToAdd& from,
        const int64_t* ids,
        const ListOrder& order,
        const int64_t* assign,
        const int64_t* second) {
    return store(
            index,
            from.n,
            ids,
            assign,
            second,
            [&](std::vector<uint64_t>& places,
                std::vector<uint64_t>& copies,
                const int64_t* stored_ids) {
                append_primary(index, from, order, assign, stored_ids, places);
                if (second != nullptr) {
                    append_copies(
                            index, from, second, stored_ids, places, copies);
                }
            });
}

/** Checks rows, finds their lists if none are given, and those of their
 * copies, and adds them.
 * @param given  list of each row, or nullptr */
std::vector<uint64_t> check_and_add(
        IndexIVFScaNN& index,
        const RowsToAdd& from,
        const int64_t* ids,
        const int64_t* given) {
    const IndexState& state = index.state();
    check_trained(state);
    std::optional<ListOrder> order;
    std::vector<int64_t> found;
    if (given != nullptr) {
        order.emplace(index.nlist, from.n, given); // checks them
    } else {
        found.resize(from.n);
    }
    const int64_t* assign = given != nullptr ? given : found.data();
    const bool copies = state.spilled != nullptr;
    const float lambda = index.options.soar_lambda;
    std::vector<int64_t> second(copies ? from.n : 0);
    visit_prepared(
            state, from, [&](size_t begin, size_t count, const float* x) {
                if (given == nullptr && copies && state.quantizer_is_flat) {
                    state.partition->assign_both(
                            count, x, lambda, &found[begin], &second[begin]);
                    return;
                }
                if (given == nullptr) {
                    assign_lists(state, count, x, &found[begin]);
                }
                if (copies) {
                    state.partition->assign_spilled(
                            count, x, assign + begin, lambda, &second[begin]);
                }
            });
    if (!order) {
        order.emplace(index.nlist, from.n, assign);
    }
    return add_assigned(
            index, from, ids, *order, assign, copies ? second.data() : nullptr);
}

} // namespace

size_t rows_at_a_time(size_t nlist, size_t d) {
    const size_t most = kPrepareFloats / d + 1;
    const size_t by_groups = kPreparePerList * nlist;
    return GroupedNearest::pays(by_groups, nlist) ? std::max(most, by_groups)
                                                  : most;
}

std::vector<uint64_t> add_rows(
        IndexIVFScaNN& index,
        size_t n,
        const TypedRows& rows,
        const int64_t* ids,
        size_t first,
        const int64_t* lists,
        const int64_t* tags) {
    return check_and_add(index, {n, rows, nullptr, first, tags}, ids, lists);
}

void IndexIVFScaNN::add(idx_t n, const float* x) {
    add_with_ids(n, x, nullptr);
}

void IndexIVFScaNN::add_with_ids(idx_t n, const float* x, const idx_t* ids) {
    add_rows(n, x, RowType::Float32, ids);
}

void IndexIVFScaNN::add_rows(
        idx_t n,
        const void* x,
        RowType type,
        const idx_t* ids,
        const int64_t* tags) {
    check_may_have_tags(*this, tags);
    faiss_ext::add_rows(
            *this, size_t(n), {x, type, size_t(d)}, ids, 0, nullptr, tags);
    maintain_after_add(*this, size_t(n));
}

void IndexIVFScaNN::add_core(
        idx_t n,
        const float* x,
        const idx_t* ids,
        const idx_t* assign
                FAISS_EXT_PARAMETER_10800(void* inverted_list_context)) {
#if FAISS_EXT_FAISS_VERSION >= 10800
    FAISS_THROW_IF_NOT_MSG(
            inverted_list_context == nullptr,
            "inverted_list_context is not used by this index");
#endif
    const TypedRows rows(x, RowType::Float32, size_t(d));
    check_and_add(*this, {size_t(n), rows}, ids, assign);
    maintain_after_add(*this, size_t(n));
}

void IndexIVFScaNN::add_sa_codes(
        idx_t n,
        const uint8_t* codes,
        const idx_t* ids) {
    check_trained(*state_);
    std::vector<idx_t> assign(n);
    for (idx_t i = 0; i < n; i++) {
        assign[i] = list_of_code(
                codes, size_t(i), sa_code_size(), coarse_code_size(), nlist);
    }
    if (state_->spilled == nullptr) {
        const TypedRows none(nullptr, RowType::Float32, size_t(d));
        add_assigned(
                *this,
                {size_t(n), none, codes},
                ids,
                ListOrder(nlist, size_t(n), assign.data()),
                assign.data(),
                nullptr);
    } else { // spilled copies are made from the decoded vectors
        std::vector<float> x(n * d);
        sa_decode(n, codes, x.data());
        const TypedRows rows(x.data(), RowType::Float32, size_t(d));
        check_and_add(*this, {size_t(n), rows, codes}, ids, assign.data());
    }
    maintain_after_add(*this, size_t(n));
}

} // namespace faiss_ext
