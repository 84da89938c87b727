#include <faiss_ext/search/list_bounds.h>

#include <algorithm>
#include <cmath>

#include <faiss/IndexFlat.h>

#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

namespace {

/// Rounding errors: scores of rows are sums of floats, bounds are not.
constexpr double kRounding = 1e-5;

} // namespace

bool ListBounds::possible(const IndexState& state) {
    return state.options.with_raw_data &&
           dynamic_cast<const faiss::IndexFlat*>(state.ivf.quantizer) !=
                   nullptr;
}

ListBounds::ListBounds(const IndexState& state)
        : radii_(state.lists->nlist, -1), lengths_(state.lists->nlist) {
    const size_t d = state.d();
    const bool unit = state.options.normalize;
    const float* centroids =
            static_cast<const faiss::IndexFlat*>(state.ivf.quantizer)->get_xb();
    parallel_slices(state.lists->nlist, 1, [&](size_t begin, size_t end) {
        std::vector<float> row(d);
        for (size_t l = begin; l < end; l++) {
            const float* centroid = centroids + l * d;
            lengths_[l] = std::sqrt(precise_square(d, centroid));
            for (size_t i = 0; i < state.lists->list(l).size(); i++) {
                to_floats(
                        state.options.raw_type,
                        d,
                        state.lists->raw_row(l, i),
                        row.data());
                const double length =
                        unit ? std::sqrt(precise_square(d, row.data())) : 1;
                const double factor = length > 0 ? 1 / length : 0;
                double square = 0;
                for (size_t j = 0; j < d; j++) {
                    const double apart = row[j] * factor - centroid[j];
                    square += apart * apart;
                }
                radii_[l] = std::max(radii_[l], std::sqrt(square));
            }
        }
    });
}

std::vector<int64_t> ListBounds::within(
        const IndexState& state,
        const float* query,
        float radius) const {
    const size_t d = state.d();
    const float* centroids =
            static_cast<const faiss::IndexFlat*>(state.ivf.quantizer)->get_xb();
    const double length = std::sqrt(precise_square(d, query));
    const double factor =
            !state.options.normalize ? 1 : (length > 0 ? 1 / length : 0);
    const bool l2 = state.is_l2();
    std::vector<int64_t> lists;
    for (size_t l = 0; l < radii_.size(); l++) {
        if (radii_[l] < 0) {
            continue;
        }
        const float* centroid = centroids + l * d;
        bool may_hold = false;
        if (l2) {
            double square = 0;
            for (size_t j = 0; j < d; j++) {
                const double apart = query[j] * factor - centroid[j];
                square += apart * apart;
            }
            const double distance = std::sqrt(square);
            const double slack = kRounding * (distance + radii_[l]);
            const double least =
                    std::max(0.0, std::max(0.0, distance - radii_[l]) - slack);
            may_hold = least * least < radius;
        } else {
            const double product = factor * precise_dot(d, query, centroid);
            const double most = product + length * factor * radii_[l];
            const double slack =
                    kRounding * length * factor * (lengths_[l] + radii_[l]);
            may_hold = most + slack > radius;
        }
        if (may_hold) {
            lists.push_back(int64_t(l));
        }
    }
    return lists;
}

} // namespace faiss_ext
