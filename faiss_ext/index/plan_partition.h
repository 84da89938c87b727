/*
 * Whether other centroids would suit the rows better, and which.
 *
 * In: an index with rows. Out: a plan (model/partition_plan.h); next: maintain.
 */

#pragma once

#include <memory>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/partition_plan.h>

namespace faiss_ext {

/// A few rows at random: squared distances to the centroids of their lists, and
/// how unlike the sizes of the lists are.
struct PartitionCheck {
    float list_error = 0;
    float imbalance = 1;
};
PartitionCheck check_partition(const IndexIVFScaNN& index);

/// Whether a plan may be worth its costs: rows have changed, and lie farther from
/// their centroids or are spread less evenly than when these were fitted.
bool has_drifted(const IndexIVFScaNN& index, const PartitionCheck& now);

/** Fits centroids to a sample of the rows, as training does; whether they are worth
 * the way there is decided on other rows. Going on from those that are there would
 * be cheaper, and .02 of recall worse: rows sorted by similarity, trained on a
 * tenth (wordnet-384, 1024 lists, 8 probes). The same for any number of threads.
 * @param now       of check_partition()
 * @param progress  called with "k-means"; may be empty
 * @return  nullptr: those that are there are as good */
std::unique_ptr<PartitionPlan> plan_partition(
        const IndexIVFScaNN& index,
        const PartitionCheck& now,
        const ScaNNProgress& progress);

/** A cheap plan: lists with far more rows than others are divided, and the numbers
 * for that come from lists with few rows, which go to the next lists.
 * @param most  rows that are encoded anew, about
 * @return  nullptr: no list is to be divided */
std::unique_ptr<PartitionPlan> plan_divisions(
        const IndexIVFScaNN& index,
        size_t most);

/// What plan_partition() costs at most, in encodings of a row.
double cost_of_plan(const IndexIVFScaNN& index);

} // namespace faiss_ext
