/* Rescoring against doubles: from codes, from refine rows, from raw rows. */

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/search/rerank.h>

#include "fixtures/codec_fixtures.h"

using namespace faiss_ext;
using namespace codec_fixtures;

namespace {

constexpr size_t kQueries = 5;

/// The entries in lists, a query, and all rows as candidates.
class Rescoring {
 public:
    Rescoring(faiss::MetricType metric, const EntryLayout& layout)
            : made(metric, layout), lists(kCentroids, layout) {
        for (size_t i = 0; i < kN; i++) {
            const auto id = int64_t(i);
            const size_t at =
                    lists.add_entries(made.lists[i], 1, &id, made.entry(i));
            all.push_back({uint32_t(made.lists[i]), uint32_t(at), 0, -7});
        }
    }

    void begin(const float* q) {
        query.assign(q, q + kD);
        from = query;
        for (size_t j = 0; j < kD && l2(); j++) {
            from[j] -= made.model.origin[j];
        }
        rescorer.begin(
                lists,
                made.model.score_term,
                query.data(),
                query.data(),
                from.data());
        std::vector<float> rotated;
        const auto turned = reference::product(
                kD, kD, 1, made.model.rotation.matrix(), from);
        rotated.assign(turned.begin(), turned.end());
        table.build(active_kernels(), made.model.pq, rotated.data(), 0);
        for (size_t i = 0; i < kN; i++) {
            all[i].bias = float(bias(i));
        }
    }
    bool l2() const {
        return made.model.score_term.metric == kL2;
    }
    /// Of the centroid.
    double bias(size_t i) const {
        const float* centroid = &made.centroids[i * kD];
        return l2() ? -reference::squared_distance(kD, query.data(), centroid) /
                               2
                    : reference::dot(kD, query.data(), centroid);
    }
    double factor() const {
        return l2() ? 1
                    : std::sqrt(reference::dot(kD, query.data(), query.data()));
    }
    /// score_term.h: bias + <q, r~> - factor * term
    double code_score(size_t i) const {
        std::vector<uint8_t> codes(made.layout.M + 1);
        const uint8_t* entry = made.entry(i);
        for (size_t m = 0; m < made.layout.M; m++) {
            codes[m] = entry[m / 2] >> (m % 2 * 4) & 15;
        }
        std::vector<float> decoded(kD);
        made.model.pq.decode(1, codes.data(), decoded.data());
        const auto turned = reference::product(
                1, kD, kD, decoded, made.model.rotation.matrix());
        double score = bias(i);
        for (size_t j = 0; j < kD; j++) {
            score += from[j] * turned[j];
        }
        if (made.layout.has_term) {
            uint16_t term;
            std::memcpy(&term, entry + made.layout.term_offset(), 2);
            score -= factor() * made.model.score_term.decode(term);
        }
        return score;
    }
    /// The same with r^ and shift.
    double refine_score(size_t i) const {
        const uint8_t* row = made.entry(i) + made.layout.refine_offset();
        float extra[2]; // scale, shift
        std::memcpy(
                extra, row + made.layout.refine_value_bytes(), sizeof(extra));
        std::vector<float> values(kD);
        refine_values(made.layout.refine_type, kD, row, values.data());
        return bias(i) +
               extra[0] * reference::dot(kD, from.data(), values.data()) -
               factor() * extra[1];
    }
    double raw_score(size_t i) const {
        const float* row = &made.raw[i * kD];
        if (l2()) {
            return -reference::squared_distance(kD, query.data(), row) / 2;
        }
        const double product = reference::dot(kD, query.data(), row);
        return made.layout.raw_norm
                       ? product / std::sqrt(reference::dot(kD, row, row))
                       : product;
    }

    Made made;
    ScaNNLists lists;
    std::vector<Candidate> all;
    std::vector<float> query, from;
    LookupTable table;
    Rescorer rescorer;
};

const std::vector<float>& queries() {
    static const auto made = random_rows::normal(kQueries * kD, 6);
    return made;
}

TEST(Rerank, ScoresFollowTheirFormulas) {
    for (auto metric : {kIP, kL2}) {
        for (const EntryLayout& layout : all_layouts()) {
            if (layout.has_primary || (layout.raw_norm && metric == kL2)) {
                continue; // copies are rescored from their primary entry
            }
            Rescoring r(metric, layout);
            for (size_t q = 0; q < kQueries; q++) {
                r.begin(&queries()[q * kD]);
                auto codes = r.all, refined = r.all, raw = r.all, best = r.all;
                r.rescorer.rescore_codes(r.table, codes);
                r.rescorer.rescore_best(active_kernels(), r.table, best);
                const bool refines = layout.refine_type != RefineType::None;
                if (refines) {
                    r.rescorer.refine(active_kernels(), refined);
                }
                if (layout.with_raw_data) {
                    r.rescorer.rerank(active_kernels(), raw);
                }
                for (size_t i = 0; i < kN; i++) {
                    ASSERT_NEAR(codes[i].score, r.code_score(i), 1e-4);
                    if (refines) {
                        ASSERT_NEAR(refined[i].score, r.refine_score(i), 3e-3);
                    }
                    if (layout.with_raw_data) {
                        ASSERT_NEAR(
                                raw[i].score,
                                r.raw_score(i),
                                2e-5 * (1 + std::abs(r.raw_score(i))));
                    }
                    const float wanted = layout.with_raw_data ? raw[i].score
                                         : refines            ? refined[i].score
                                                              : codes[i].score;
                    ASSERT_EQ(best[i].score, wanted) << "the best that is kept";
                    ASSERT_EQ(best[i].list, r.all[i].list);
                    ASSERT_EQ(best[i].offset, r.all[i].offset);
                    ASSERT_EQ(best[i].bias, r.all[i].bias);
                }
            }
        }
    }
}

TEST(Rerank, RefinedAndRawScoresAreNearOneAnother) {
    for (auto metric : {kIP, kL2}) {
        Rescoring r(metric, layout_of(RefineType::FP16, true));
        r.begin(queries().data());
        auto refined = r.all, raw = r.all;
        r.rescorer.refine(active_kernels(), refined);
        r.rescorer.rerank(active_kernels(), raw);
        for (size_t i = 0; i < kN; i++) {
            // L2: scores count from |q - origin|, not from 0
            const double square =
                    reference::dot(kD, r.query.data(), r.query.data());
            EXPECT_NEAR(refined[i].score, raw[i].score, .02 * (1 + square));
        }
    }
}

TEST(Rerank, NoCandidatesAndOne) {
    Rescoring r(kL2, layout_of(RefineType::Int8, true));
    r.begin(queries().data());
    std::vector<Candidate> all = r.all;
    r.rescorer.refine(active_kernels(), all);
    std::vector<Candidate> none, one{r.all[9]};
    r.rescorer.rescore_codes(r.table, none);
    r.rescorer.refine(active_kernels(), none);
    r.rescorer.rerank(active_kernels(), none);
    EXPECT_TRUE(none.empty());
    r.rescorer.refine(active_kernels(), one);
    EXPECT_EQ(one[0].score, all[9].score);
}

TEST(Rerank, AQueryOfZerosScoresTheTerms) {
    Rescoring r(kIP, layout_of(RefineType::Int8, true));
    const std::vector<float> zeros(kD);
    r.begin(zeros.data());
    for (auto rescore : {&Rescorer::refine, &Rescorer::rerank}) {
        auto rows = r.all;
        (r.rescorer.*rescore)(active_kernels(), rows);
        for (const Candidate& row : rows) {
            EXPECT_EQ(row.score, 0);
        }
    }
}

/// What no float holds is told in doubles, and is in order.
TEST(Rerank, RawScoresBeyondFloats) {
    for (auto metric : {kIP, kL2}) {
        for (bool norm : {false, true}) {
            if (norm && metric == kL2) {
                continue;
            }
            const EntryLayout layout = layout_of(RefineType::None, true, norm);
            Rescoring r(metric, layout);
            // rows 0..9 are longer and longer, row 3 is next to nothing
            for (size_t i = 0; i < 10; i++) {
                for (size_t j = 0; j < kD; j++) {
                    r.made.raw[i * kD + j] *=
                            i == 3 ? 1e-30f : std::pow(10.f, 28 + float(i));
                }
            }
            r.made.codec().encode(
                    kN,
                    r.made.x.data(),
                    r.made.raw.data(),
                    r.made.centroids.data(),
                    r.made.entries.data());
            for (size_t i = 0; i < kN; i++) {
                const auto id = int64_t(i);
                r.lists.update_entries(
                        r.all[i].list,
                        r.all[i].offset,
                        1,
                        &id,
                        r.made.entry(i));
            }
            r.begin(queries().data());
            auto rows = r.all;
            r.rescorer.rerank(active_kernels(), rows);
            const double most = metric == kL2 ? FLT_MAX / 2. : FLT_MAX;
            for (size_t i = 0; i < kN; i++) {
                const double wanted = std::clamp(r.raw_score(i), -most, most);
                EXPECT_NEAR(
                        rows[i].score, wanted, 3e-5 * (1 + std::abs(wanted)))
                        << "row " << i << " norm " << norm;
            }
        }
    }
}

/// A damaged file may hold a scale that is none.
TEST(Rerank, NoNumbersAreTheWorst) {
    const EntryLayout layout = layout_of(RefineType::Int8, false);
    Rescoring r(kIP, layout);
    const float bad[] = {std::numeric_limits<float>::quiet_NaN(), 0};
    std::memcpy(
            &r.made.entries
                     [layout.refine_offset() + layout.refine_value_bytes()],
            bad,
            sizeof(bad));
    const int64_t id = 0;
    r.lists.update_entries(
            r.all[0].list, r.all[0].offset, 1, &id, r.made.entry(0));
    r.begin(queries().data());
    auto rows = r.all;
    r.rescorer.refine(active_kernels(), rows);
    EXPECT_EQ(rows[0].score, -std::numeric_limits<float>::infinity());
    for (size_t i = 1; i < kN; i++) {
        EXPECT_TRUE(std::isfinite(rows[i].score)) << i;
    }
}

TEST(Rerank, KeepsTheBestOfTiesTheFirst) {
    std::vector<Candidate> rows;
    for (uint32_t i = 0; i < 60; i++) {
        rows.push_back({i * 7 % 5, i * 11 % 13, 0, float(i * 17 % 6)});
    }
    auto in_order = rows;
    std::sort(in_order.begin(), in_order.end(), [](auto& a, auto& b) {
        return std::tuple(-a.score, a.list, a.offset) <
               std::tuple(-b.score, b.list, b.offset);
    });
    for (size_t keep : {0, 1, 7, 30, 59, 60, 61, 1000}) {
        auto kept = rows;
        keep_best(kept, keep);
        ASSERT_EQ(kept.size(), std::min<size_t>(keep, 60));
        std::vector<std::tuple<float, uint32_t, uint32_t>> got, wanted;
        for (size_t i = 0; i < kept.size(); i++) {
            got.emplace_back(-kept[i].score, kept[i].list, kept[i].offset);
            wanted.emplace_back(
                    -in_order[i].score, in_order[i].list, in_order[i].offset);
        }
        std::sort(got.begin(), got.end());
        EXPECT_EQ(got, wanted) << keep;
    }
    std::vector<Candidate> none;
    keep_best(none, 3);
    EXPECT_TRUE(none.empty());
}

} // namespace
