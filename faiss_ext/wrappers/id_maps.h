/*
 * IndexIDMap and IndexIDMap2 around any index whose calls either succeed or
 * change nothing. Faiss' own change the rows first, and may then have no memory
 * for the ids; and they expect that a removal renumbers the rows below, as that
 * of an IndexFlat does and that of an IndexIVF does not. Searches pass all
 * parameters on (map_parameters.h).
 *
 * The factory, clone_index() and read_index() make these (make_silent); for
 * Faiss they are its own classes.
 */

#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include <faiss/IndexIDMap.h>
#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/wrappers/map_parameters.h>

namespace faiss_ext {

/// Adds ids to a map, in two steps.
class MapGrowth {
 public:
    /// The step that needs memory. @param ids  size n, kept alive by the caller
    MapGrowth(faiss::IndexIDMap& map, size_t n, const int64_t* ids);
    /// The other step, after the rows were added below; does not fail.
    void commit();

 private:
    faiss::IndexIDMap& map_;
    const int64_t* ids_;
    size_t n_;
    std::unordered_map<int64_t, int64_t> fresh_; ///< for an IndexIDMap2
};

/// Removes the rows of a selector; the rows left below are renumbered from 0.
/// @throws faiss::FaissException if the index below cannot remove rows
size_t remove_from_map(
        faiss::IndexIDMap& map,
        const faiss::IDSelector& selector);

/// Moves the rows of `other`, a map of the same kind, adding `add_id` to their
/// ids.
/// @param merge_below  merges the indexes below, adding a number to the ids
/// there
void merge_maps(
        faiss::IndexIDMap& map,
        faiss::IndexIDMap& other,
        int64_t add_id,
        const std::function<void(int64_t)>& merge_below);

/// The methods of both kinds.
template <class Base>
class StrongIdMap : public Base {
 public:
    void add_with_ids(int64_t n, const float* x, const int64_t* ids) override {
        MapGrowth growth(*this, size_t(n), ids);
        this->index->add(n, x);
        growth.commit();
    }
    size_t remove_ids(const faiss::IDSelector& selector) override {
        return remove_from_map(*this, selector);
    }
    void merge_from(faiss::Index& other, int64_t add_id) override {
        this->check_compatible_for_merge(other);
        Base& map = dynamic_cast<Base&>(other);
        merge_maps(*this, map, add_id, [&](int64_t more) {
            this->index->merge_from(*map.index, more);
        });
    }
    void search(
            int64_t n,
            const float* x,
            int64_t k,
            float* distances,
            int64_t* labels,
            const faiss::SearchParameters* params) const override {
        const InnerParameters below(*this, params);
        this->index->search(n, x, k, distances, labels, below.get());
        to_outer_ids(*this, size_t(n * k), labels);
    }
    void range_search(
            int64_t n,
            const float* x,
            float radius,
            faiss::RangeSearchResult* result,
            const faiss::SearchParameters* params) const override {
        const InnerParameters below(*this, params);
        this->index->range_search(n, x, radius, result, below.get());
        to_outer_ids(*this, result->lims[n], result->labels);
    }
    void reset() override {
        Base::reset();
        forget(*this);
    }

 private:
    static void forget(faiss::IndexIDMap2& map) {
        map.rev_map.clear(); // Faiss' reset() does not
    }
    static void forget(faiss::IndexIDMap&) {}
};

using IdMap = StrongIdMap<faiss::IndexIDMap>;
using IdMap2 = StrongIdMap<faiss::IndexIDMap2>;

} // namespace faiss_ext
