/*
 * The parts of a factory string that Faiss builds: a closed list, checked
 * before Faiss parses them. Its parser does not check numbers (OPQ0 divides by
 * zero, HNSW0 reads out of bounds) and uses stack for every character.
 *
 *   index:     [IDMap,|IDMap2,] [transform,]* body [,RFlat|,Refine(index)]
 *              [,IDMap|,IDMap2]
 *   transform: PCA[W][R]<n> L2norm RR[<n>] ITQ[<n>] OPQ<M>[_<n>] Pad<n>
 *   body:      lists,code or Flat SQ4 SQ6 SQ8 SQfp16 PQ<M>[x<bits>][np]
 *              PQ<M>x4fs[_<block>] LSH[r][t] HNSW[<M>][,code]
 *   lists:     IVF<n>[_HNSW[<M>]] IVF<n>(quantizer) IMI2x<bits>
 *   quantizer: Flat SQ4 SQ6 SQ8 SQfp16 PQ<M>[x<bits>][np] HNSW[<M>][,code]
 *   code:      Flat FlatDedup SQ4 SQ6 SQ8 SQfp16 PQ<M>[x<bits>][np]
 *              PQ<M>+<M> PQ<M>x4fs[r][_<block>]
 */

#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <faiss/MetricType.h>

#include <faiss_ext/wrappers/factory_parts.h>

namespace faiss_ext {

/// The lists before ScaNN.
struct FactoryLists {
    size_t nlist = 0;
    /// the same with one list: Faiss builds these, and allocates for no more
    std::string with_one;
};

/** Checks the parts before ScaNN: id maps, transforms, and lists as the
 * last part.
 * @param d  1..65536 */
FactoryLists check_parts_before(
        const std::string& description,
        std::span<const FactoryPart> parts,
        int d,
        faiss::MetricType metric);

/// Checks a description without ScaNN.
void check_faiss_description(
        const std::string& description,
        int d,
        faiss::MetricType metric);

} // namespace faiss_ext
