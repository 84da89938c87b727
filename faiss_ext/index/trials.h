/*
 * Trials on a sample of the training rows, for choices that no rule makes well:
 * which rows share a list, and whether the codes can rank them.
 *
 * In: training rows, prepared. Out: the recall of a small search; next:
 * train.cpp decides.
 */

#pragma once

#include <cstddef>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/** For inner product and rows of different lengths: whether lists of rows with
 * similar directions hold more of the best rows in the lists visited than lists
 * of near rows. Neither is better on all data: with more clusters than lists,
 * or a column with a large mean, it is directions; with heavy-tailed lengths
 * near rows, by far. So both are tried on a sample. */
bool directions_are_better(const IndexState& state, size_t n, const float* x);

/** Recall of a search by the codes in a trial index of some of the rows, with all
 * lists visited: if it is low, no setting of a search would help. */
float trial_recall(const IndexState& state, size_t n, const float* x);

} // namespace faiss_ext
