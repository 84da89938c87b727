/*
 * Trials on some of the training rows, where no rule tells what serves best:
 * which rows share a list, and whether the codes can rank them.
 *
 * In: training rows, prepared. Out: figures of a small search; next: train.cpp
 * decides.
 */

#pragma once

#include <cstddef>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

/** Inner product, rows of different lengths: whether lists of rows with like
 * directions hold more of the best rows, at as few lists, than lists of near
 * rows. Neither is better on all data (more clusters than lists, or a column
 * with a large mean: directions; lengths from a heavy tail: near rows, by far),
 * so both are tried on a sample. */
bool directions_serve_better(const IndexState& state, size_t n, const float* x);

/** The share of the nearest rows that a search finds by the codes, in a trial
 * index of some of the rows: what codes cannot rank, no setting of a search
 * would find. */
float trial_recall(const IndexState& state, size_t n, const float* x);

} // namespace faiss_ext
