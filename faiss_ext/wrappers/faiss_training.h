/*
 * What Faiss trains around a ScaNN index (PCA, OPQ, ...), and the indexes of
 * Faiss that the factory makes: without a word on stdout or stderr.
 *
 * Faiss warns there of few training rows, and of rows of which it makes a
 * useless matrix. The former are no fault; the latter are refused.
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

/** Lets the training of an index print nothing; each IndexPreTransform in it
 * becomes a PreTransform, each IndexIDMap an IdMap (id_maps.h). All parts must
 * be owned by what they are part of. */
void make_silent(std::unique_ptr<faiss::Index>& root);

} // namespace faiss_ext
