/* What a history asks its index, compared with the dictionary. */

#pragma once

#include "history_operations.h"

namespace histories {

inline std::vector<float> History::as_kept(const float* x) const {
    std::vector<float> kept(x, x + kD);
    if (kind_.normalized()) {
        const double norm = std::sqrt(reference::dot(kD, x, x));
        for (float& value : kept) {
            value = float(value / norm);
        }
    }
    return kept;
}

inline double History::distance(const float* q, const float* x) const {
    const std::vector<float> a = as_kept(q), b = as_kept(x);
    return fixtures::exact_distance(kind_.metric, kD, a.data(), b.data());
}

inline void History::check_distance(const float* q, int64_t id, float got)
        const {
    const std::vector<float> a = as_kept(q), b = as_kept(row(rows_.at(id)));
    const double aa = reference::dot(kD, a.data(), a.data());
    const double bb = reference::dot(kD, b.data(), b.data());
    EXPECT_NEAR(
            got,
            distance(q, row(rows_.at(id))),
            kind_.error * (std::sqrt(aa * bb) + bb))
            << "id " << id;
}

inline void History::search() {
    const size_t nq = 1 + draw(6), k = 1 + draw(20);
    std::vector<size_t> chosen;
    const std::vector<float> q = draw_rows(nq, chosen);
    const bool all = draw(2) == 0;
    const AnySelector any(random_, rows_);
    const bool filters = plain() && draw(2) == 0;
    faiss_ext::SearchParametersScaNN params;
    params.nprobe = all ? leaf().nlist : 1 + draw(leaf().nlist);
    const size_t most = 2 * rows_.size() + 1000;
    params.reorder_k = all ? most : k + draw(100);
    params.refine_k = all ? most : params.reorder_k + draw(100);
    params.sel = filters ? const_cast<faiss::IDSelector*>(&any.get()) : nullptr;
    IndexIVFScaNN& index = leaf();
    const size_t nprobe = index.nprobe;
    if (!plain()) { // Faiss 1.7.3 hands no parameters through wrappers
        index.nprobe = params.nprobe;
        index.reorder_k = params.reorder_k;
        index.refine_k = params.refine_k;
    }
    const fixtures::Hits hits =
            fixtures::search(*index_, q, k, plain() ? &params : nullptr);
    index.nprobe = nprobe;
    index.reorder_k = index.refine_k = 0;

    const double sign = kind_.metric == kL2 ? 1 : -1;
    for (size_t i = 0; i < nq; i++) {
        std::vector<std::pair<double, int64_t>> best;
        for (auto [id, at] : rows_) {
            if (fixtures::allowed(params.sel, id)) {
                best.emplace_back(sign * distance(&q[i * kD], row(at)), id);
            }
        }
        std::sort(best.begin(), best.end());
        const size_t there = std::min(k, best.size());
        std::set<int64_t> seen;
        for (size_t r = 0; r < k; r++) {
            const int64_t id = hits.labels[i * k + r];
            const float found = hits.distances[i * k + r];
            if (id < 0) {
                EXPECT_TRUE(r == k - 1 || hits.labels[i * k + r + 1] < 0);
                EXPECT_TRUE(!all || r >= there) << r << " of " << there;
                continue;
            }
            ASSERT_TRUE(rows_.count(id)) << "id " << id << " does not live";
            EXPECT_TRUE(fixtures::allowed(params.sel, id)) << "id " << id;
            EXPECT_TRUE(seen.insert(id).second) << "id " << id << " twice";
            EXPECT_TRUE(
                    r == 0 ||
                    sign * hits.distances[i * k + r - 1] <= sign * found);
            check_distance(&q[i * kD], id, found);
            if (all && exact()) {
                ASSERT_LT(r, there);
                // of rows as near as the last any may be left out
                EXPECT_EQ(sign * double(found), best[r].first) << "rank " << r;
            }
        }
        for (size_t r = 0; all && r < there; r++) {
            wanted_++;
            hits_ += seen.count(best[r].second);
        }
    }
}

inline void History::range_search() {
    if (!plain() || rows_.empty()) {
        return;
    }
    std::vector<size_t> chosen;
    const std::vector<float> q = draw_rows(2, chosen);
    auto any = rows_.begin();
    std::advance(any, draw(rows_.size()));
    const auto radius = float(distance(q.data(), row(any->second)));
    faiss_ext::SearchParametersScaNN params;
    const bool all = draw(2) == 0;
    params.nprobe = all ? leaf().nlist : 1 + draw(leaf().nlist);
    faiss::RangeSearchResult found(2);
    leaf().range_search(2, q.data(), radius, &found, &params);
    for (size_t i = 0; i < 2; i++) {
        std::set<int64_t> seen, within;
        for (size_t j = found.lims[i]; j < found.lims[i + 1]; j++) {
            const int64_t id = found.labels[j];
            ASSERT_TRUE(rows_.count(id)) << "id " << id << " does not live";
            EXPECT_TRUE(seen.insert(id).second) << "id " << id << " twice";
            check_distance(&q[i * kD], id, found.distances[j]);
        }
        for (auto [id, at] : rows_) {
            const double d = distance(&q[i * kD], row(at));
            if (kind_.metric == kL2 ? d < radius : d > radius) {
                within.insert(id);
            }
        }
        if (all && exact()) {
            EXPECT_TRUE(seen == within);
        }
    }
}

/// By the direct map, through all wrappers; without one by place.
inline void History::reconstruct() {
    if (rows_.empty() || leaf().direct_map.no() ||
        (has_id_map() &&
         dynamic_cast<faiss::IndexIDMap2*>(index_.get()) == nullptr)) {
        return;
    }
    auto any = rows_.begin();
    std::advance(any, draw(rows_.size()));
    std::vector<float> x(kD);
    index_->reconstruct(any->first, x.data());
    const float* wanted = row(any->second);
    const double off = reference::squared_distance(kD, x.data(), wanted);
    const double size = reference::dot(kD, wanted, wanted);
    if (kind_.exact_rows()) {
        EXPECT_LE(off, 1e-10 * size) << "id " << any->first;
    } else if (!kind_.normalized()) {
        EXPECT_LE(off, .5 * size) << "id " << any->first;
    }
}

inline void History::check() const {
    const IndexIVFScaNN& index = leaf();
    ASSERT_EQ(index_->ntotal, int64_t(rows_.size()));
    ASSERT_EQ(index.ntotal, int64_t(rows_.size()));
    EXPECT_TRUE(index.direct_map_fits());
    auto map = dynamic_cast<const faiss::IndexIDMap*>(index_.get());
    auto outer = [&](int64_t id) { return map ? map->id_map.at(id) : id; };
    std::set<int64_t> seen;
    for (size_t l = 0; l < index.nlist; l++) {
        EXPECT_EQ(
                index.lists().list(l).apart,
                lists_model::apart_by_terms(
                        index.lists(), index.lists().layout(), l));
        for (size_t i = 0; i < index.lists().list_size(l); i++) {
            const int64_t inner = index.lists().get_single_id(l, i);
            const int64_t id = outer(inner);
            ASSERT_TRUE(rows_.count(id)) << "id " << id << " does not live";
            EXPECT_TRUE(seen.insert(id).second) << "id " << id << " twice";
            if (!index.direct_map.no()) {
                EXPECT_EQ(
                        uint64_t(index.direct_map.get(inner)),
                        faiss::lo_build(l, i));
            }
            if (exact() && !map) {
                EXPECT_TRUE(std::equal(
                        row(rows_.at(id)),
                        row(rows_.at(id)) + kD,
                        index.lists().raw_row(l, i)))
                        << "row of id " << id;
            }
        }
    }
    ASSERT_EQ(seen.size(), rows_.size());
    const faiss_ext::ScaNNLists* copies = index.spilled_lists();
    std::set<int64_t> copied;
    for (size_t l = 0; copies != nullptr && l < index.nlist; l++) {
        for (size_t i = 0; i < copies->list_size(l); i++) {
            const uint64_t place = copies->list(l).primary[i];
            const int64_t id = copies->get_single_id(l, i);
            EXPECT_TRUE(copied.insert(id).second) << "two copies of " << id;
            EXPECT_EQ(
                    index.lists().get_single_id(
                            faiss::lo_listno(place), faiss::lo_offset(place)),
                    id);
        }
    }
    if (copies != nullptr && exact()) {
        check_copies(*copies);
    }
}

/// Each row has the copy that SOAR's rule gives it.
inline void History::check_copies(const faiss_ext::ScaNNLists& copies) const {
    const IndexIVFScaNN& index = leaf();
    std::map<int64_t, size_t> list_of;
    for (size_t l = 0; l < index.nlist; l++) {
        for (size_t i = 0; i < copies.list_size(l); i++) {
            list_of[copies.get_single_id(l, i)] = l;
        }
    }
    size_t wanted = 0;
    for (size_t l = 0; l < index.nlist; l++) {
        for (size_t i = 0; i < index.lists().list_size(l); i++) {
            const int64_t primary = int64_t(l);
            int64_t second;
            index.partition().assign_spilled(
                    1,
                    index.lists().raw_row(l, i),
                    &primary,
                    index.options.soar_lambda,
                    &second);
            auto found = list_of.find(index.lists().get_single_id(l, i));
            EXPECT_EQ(
                    second,
                    found == list_of.end() ? -1 : int64_t(found->second));
            wanted += second >= 0;
        }
    }
    EXPECT_EQ(list_of.size(), wanted);
}

} // namespace histories
