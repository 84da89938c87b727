#include <faiss_ext/search/recall_profile.h>

#include <algorithm>
#include <cmath>

#include <faiss_ext/memory/row_products.h>

namespace faiss_ext {

namespace {

/// Between two entries of a table, or beyond its ends.
struct Place {
    size_t low;
    size_t high;
    double share; ///< of high
};

/// @param x, values  on the scale on which `scale` makes entries even
template <class Values, class Scale>
Place find_place(const Values& values, double x, Scale&& scale) {
    const size_t above =
            std::lower_bound(values.begin(), values.end(), x) - values.begin();
    if (above == 0 || above == values.size()) {
        const size_t end = above == 0 ? 0 : above - 1;
        return {end, end, 0};
    }
    const double low = scale(values[above - 1]);
    return {above - 1, above, (scale(x) - low) / (scale(values[above]) - low)};
}

double log_of(double x) {
    return std::log(x);
}

double nines(double target) {
    return -std::log1p(-target);
}

/// Of removed rows only a share is left, as of those that a filter passes.
double among_measured(const ScaNNProfile& profile, double k, size_t rows) {
    const double left = double(std::max<size_t>(rows, 1));
    return k * std::max(1.0, double(profile.rows) / left);
}

/// More rows in the same lists push true neighbours back in the order of the
/// codes: the candidates beyond k grow with the root of their number.
double candidate_growth(const ScaNNProfile& profile, size_t rows) {
    return std::sqrt(std::max(1.0, double(rows) / double(profile.rows)));
}

/// A field of the settings, interpolated on logarithmic scales.
double interpolated(
        const ScaNNProfile& profile,
        uint32_t ScaNNProfile::Setting::*field,
        const Place& k,
        const Place& target) {
    auto value = [&](size_t i, size_t t) {
        const auto& s = profile.settings[i * profile.targets.size() + t];
        return std::log(double(std::max<uint32_t>(s.*field, 1)));
    };
    auto of_k = [&](size_t i) {
        const double low = value(i, target.low);
        return low + target.share * (value(i, target.high) - low);
    };
    const double low = of_k(k.low);
    return std::exp(low + k.share * (of_k(k.high) - low));
}

uint32_t rounded_up(double value) {
    constexpr double kMax = 1u << 31;
    constexpr double kExact = 1e-6; // relative, of logarithms and back
    return uint32_t(std::min(std::ceil(value * (1 - kExact)), kMax));
}

/// A row of a table of recalls, between its columns.
double recall_in(
        const std::vector<float>& table,
        size_t columns,
        const Place& k,
        const Place& column) {
    auto of_k = [&](size_t i) {
        const float* row = &table[i * columns];
        return row[column.low] +
               column.share * (row[column.high] - row[column.low]);
    };
    const double low = of_k(k.low);
    return low + k.share * (of_k(k.high) - low);
}

} // namespace

ScaNNProfile::Setting profile_setting(
        const ScaNNProfile& profile,
        float target,
        double k,
        size_t rows) {
    const Place of_target = find_place(profile.targets, target, nines);
    const Place of_k = find_place(profile.ks, k, log_of);
    const double growth = candidate_growth(profile, rows);
    auto candidates = [&](uint32_t ScaNNProfile::Setting::*field) {
        if (profile.settings[0].*field == 0) {
            return uint32_t(0);
        }
        const double kept = interpolated(profile, field, of_k, of_target);
        return rounded_up(k + std::max(0.0, kept - k) * growth);
    };
    return {uint32_t(profile_probes(profile, target, k, rows)),
            candidates(&ScaNNProfile::Setting::refine_k),
            candidates(&ScaNNProfile::Setting::reorder_k)};
}

size_t profile_probes(
        const ScaNNProfile& profile,
        float target,
        double k,
        size_t rows) {
    const size_t nlist = profile.probes.back();
    k = among_measured(profile, k, rows);
    if (!(k < double(profile.rows))) {
        return nlist;
    }
    const auto field = &ScaNNProfile::Setting::nprobe;
    const Place of_target = find_place(profile.targets, target, nines);
    double lists = interpolated(
            profile, field, find_place(profile.ks, k, log_of), of_target);
    const size_t last = profile.ks.size() - 1;
    if (k > profile.ks[last] && last > 0) {
        // beyond the table as at its end, and at least as the root
        const size_t before = last - 1;
        const double from =
                interpolated(profile, field, {before, before, 0}, of_target);
        const double slope =
                std::log(lists / from) /
                std::log(double(profile.ks[last]) / profile.ks[before]);
        lists *= std::pow(k / profile.ks[last], std::clamp(slope, 0.5, 1.0));
    }
    return std::min<size_t>(nlist, rounded_up(lists));
}

float expected_recall(
        const ScaNNProfile& profile,
        const VisitedLists& visited,
        size_t rows) {
    const double k = among_measured(profile, visited.k, rows);
    const double in_lists = recall_in(
            profile.probe_recall,
            profile.probes.size(),
            find_place(profile.ks, k, log_of),
            find_place(profile.probes, double(visited.lists), log_of));
    const double results = double(visited.results);
    const double growth = candidate_growth(profile, rows);
    const Place of_results = find_place(profile.ks, results, log_of);
    auto kept = [&](const std::vector<float>& table, size_t candidates) {
        if (candidates == 0 || table.empty()) {
            return 1.0;
        }
        const double more = std::max(0.0, double(candidates) - results);
        // of another k, as many times the candidates
        auto of_k = [&](size_t i) {
            const double scale = double(profile.ks[i]) / results;
            const Place column = find_place(
                    profile.candidates,
                    (results + more / growth) * scale,
                    log_of);
            return recall_in(
                    table, profile.candidates.size(), {i, i, 0}, column);
        };
        const double low = of_k(of_results.low);
        return low + of_results.share * (of_k(of_results.high) - low);
    };
    const double recall = in_lists *
                          kept(profile.scan_recall, visited.scanned) *
                          kept(profile.refine_recall, visited.refined);
    // Of few lists more of the neighbours are kept than of many, which the tables
    // do not know; but the target's setting was measured as a whole.
    return float(std::max(recall, std::min(in_lists, double(visited.target))));
}

float kind_of_query(const IndexState& state, const float* query, float score) {
    if (state.is_l2()) {
        return score;
    }
    const double length = std::sqrt(precise_square(state.d(), query));
    return length > 0 ? float(score / length) : 0;
}

} // namespace faiss_ext
