/*
 * Training of Faiss' transforms around a ScaNN index (PCA, OPQ, ...) and of
 * Faiss' own indexes that the factory makes, without output on stdout or
 * stderr.
 *
 * Faiss prints warnings about few training rows, and about rows that give a
 * useless matrix. The former is no error here; the latter throws.
 */

#pragma once

#include <cstdint>
#include <memory>

#include <faiss/IndexPreTransform.h>

namespace faiss_ext {

/// A chain of transforms that checks its training rows.
class PreTransform : public faiss::IndexPreTransform {
 public:
    /** @param n  at least 1 row, all finite, and so small that their products
     *            are
     *  @throws faiss::FaissException otherwise, or if a part cannot be trained;
     *          what was not trained before is not then */
    void train(int64_t n, const float* x) override;
};

/** Replaces each IndexPreTransform in an index by a PreTransform, each IndexIDMap
 * by an IdMap (id_maps.h), and turns warnings of training off. Wrappers must
 * own what they wrap. */
void make_silent(std::unique_ptr<faiss::Index>& root);

} // namespace faiss_ext
