/*
 * Puts a model and lists into an index: the last step of training, reading a
 * file and cloning.
 */

#pragma once

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

class IndexIVFScaNN;

/// Replaces the lists. Does not fail.
void take_lists(IndexIVFScaNN& index, ListSets sets);

/** Makes the index a trained one; the quantizer must hold nlist centroids.
 * @param sets  nlist lists each, with entries of this model; `spilled` is
 *              nullptr iff options.soar_lambda is 0
 * @throws faiss::FaissException if they do not fit; the index stays as it was */
void set_model(IndexIVFScaNN& index, ScaNNModel model, ListSets sets);
/// The same with empty lists.
void set_model(IndexIVFScaNN& index, ScaNNModel model);

} // namespace faiss_ext
