/*
 * Search parameters below an IndexIDMap: a selector of the map's ids asks about
 * the ids below. Faiss' own maps take no parameters (1.7.3), or take only the
 * selector of them, which they follow where there is none (1.11).
 */

#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <faiss/IndexIDMap.h>
#include <faiss/impl/IDSelector.h>

namespace faiss_ext {

/// Asks a selector of outer ids about the ids below an IndexIDMap.
struct TranslatedSelector : faiss::IDSelector {
    const std::vector<int64_t>& id_map;
    const faiss::IDSelector& outer;

    TranslatedSelector(
            const std::vector<int64_t>& id_map,
            const faiss::IDSelector& outer)
            : id_map(id_map), outer(outer) {}
    bool is_member(int64_t id) const override {
        return uint64_t(id) < id_map.size() && outer.is_member(id_map[id]);
    }
};

class InnerParameters {
 public:
    /// @param outer  of the search of the map, or nullptr; lives as long as this
    /// @throws faiss::FaissException for a selector in parameters of a class
    ///         other than SearchParameters, .. IVF and .. ScaNN
    InnerParameters(
            const faiss::IndexIDMap& map,
            const faiss::SearchParameters* outer);

    /// For the index below the map.
    const faiss::SearchParameters* get() const {
        return get_;
    }

 private:
    std::optional<TranslatedSelector> selector_;
    std::unique_ptr<faiss::SearchParameters> copy_;
    const faiss::SearchParameters* get_;
};

/// Labels of the index below, as the map's ids; -1 where there is none.
void to_outer_ids(const faiss::IndexIDMap& map, size_t n, int64_t* labels);

} // namespace faiss_ext
