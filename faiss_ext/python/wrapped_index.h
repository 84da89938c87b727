/*
 * Operations on an index inside Faiss' wrappers IndexIDMap, IndexIDMap2 and
 * IndexPreTransform, in any order.
 *
 * The wrappers of Faiss 1.7.3 pass on no search parameters (IDMap), forget ids
 * that were removed (IDMap around any IVF index), merge wrong ids (same) and
 * know no update_vectors. Here each operation walks down the wrappers itself
 * and calls the leaf. Nothing here needs Python.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <faiss/Index.h>
#include <faiss/IndexIVF.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/IDSelector.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/scann_iterator.h>
#include <faiss_ext/wrappers/map_parameters.h>

namespace faiss_ext::python {

/// The IVF index below the wrappers, or nullptr.
faiss::IndexIVF* find_ivf(faiss::Index* index);
const faiss::IndexIVF* find_ivf(const faiss::Index* index);

/// "IDMap2,PreTransform,ScaNN": the layers, for messages.
std::string layers(const faiss::Index* index);

/// Bytes that the wrappers around a leaf take for n vectors.
size_t wrapper_memory(const faiss::Index* index, size_t n);

/// What an IVF index of Faiss' own understands.
/// @throws faiss::FaissException if anything else is set
faiss::SearchParametersIVF faiss_params(const SearchParametersScaNN& params);

/** k nearest neighbours. A leaf that is no ScaNN index uses the parameters that
 * it has and throws if others are set.
 * @param distances, labels  out, size n * k
 * @param rows  out, size n * k * d, the vectors found (NaN where label is -1),
 *              or nullptr */
void search(
        const faiss::Index* index,
        int64_t n,
        const float* x,
        int64_t k,
        float* distances,
        int64_t* labels,
        float* rows,
        const SearchParametersScaNN& params);

void range_search(
        const faiss::Index* index,
        int64_t n,
        const float* x,
        float radius,
        faiss::RangeSearchResult* result,
        const SearchParametersScaNN& params);

/// A ScaNNIterator inside wrappers.
class PiecesOfSearch {
 public:
    /// As ScaNNIterator::next().
    size_t next(float* distances, int64_t* labels);

 private:
    friend PiecesOfSearch iterate(
            const faiss::Index*,
            const float*,
            int64_t,
            const SearchParametersScaNN&);

    /// of the maps around the index, outermost first, and their parameters
    std::vector<const faiss::IndexIDMap*> maps_;
    std::vector<std::unique_ptr<InnerParameters>> below_;
    std::unique_ptr<ScaNNIterator> rows_;
};

/// @param x  size d; copied. @param params  what it points to is borrowed
PiecesOfSearch iterate(
        const faiss::Index* index,
        const float* x,
        int64_t batch,
        const SearchParametersScaNN& params);

/// Ids of all vectors, in any order.
std::vector<int64_t> all_ids(const faiss::Index* index);

/// Ids of the vectors in one list, as the outermost wrapper knows them.
std::vector<int64_t> list_ids(const faiss::Index* index, size_t list);

/// @return number removed
size_t remove_ids(faiss::Index* index, const faiss::IDSelector& selector);

/// A ScaNN index by itself takes rows of any type as they are; Faiss' wrappers
/// and indexes get floats.
void train_rows(faiss::Index* index, int64_t n, const TypedRows& x);

/// @param ids  size n, or nullptr for running numbers
void add_rows(
        faiss::Index* index,
        int64_t n,
        const TypedRows& x,
        const int64_t* ids);

/// Needs find_ivf(). Builds a hash map of ids if there is no direct map.
void update_rows(
        faiss::Index* index,
        int64_t n,
        const int64_t* ids,
        const TypedRows& x);

/// True if reconstruct() need not read all ids.
bool has_direct_map(const faiss::Index* index);
/// As Faiss' set_direct_map_type(), but if it throws the old map stays.
void set_direct_map_type(faiss::IndexIVF& ivf, faiss::DirectMap::Type type);

/** Vectors by id. Without a direct map this reads the ids of all lists once.
 * @param x  out, size n * d
 * @throws faiss::FaissException naming the first id that is unknown */
void reconstruct(
        const faiss::Index* index,
        int64_t n,
        const int64_t* ids,
        float* x);

/// The layer that sa_encode() and similar functions are called on: Faiss 1.7.3
/// does not pass them through an IDMap.
const faiss::Index* codec(const faiss::Index* index);

/// @param ids  size n, or nullptr for running numbers. Needs a ScaNN leaf.
void add_sa_codes(
        faiss::Index* index,
        int64_t n,
        const uint8_t* codes,
        const int64_t* ids);

/// Moves all vectors of `other`; the two must have the same layers.
void merge_from(faiss::Index* index, faiss::Index* other, int64_t add_id);

/// Copies vectors; the two must have the same layers, IDMap not among them.
void copy_subset_to(
        faiss::Index* index,
        faiss::Index* other,
        int subset_type,
        int64_t a1,
        int64_t a2);

} // namespace faiss_ext::python
