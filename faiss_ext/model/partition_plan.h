/*
 * Centroids that the lists are to have, and how far the way there is done.
 *
 * In: rows of the index (index/plan_partition.h). Out: the next lists to be
 * changed; next: index/maintain.cpp.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/partition/partition.h>

namespace faiss_ext {

struct PartitionPlan {
    std::vector<float> centroids; ///< size nlist * d
    Partition partition;          ///< of these, which it reads in place
    /// the lists whose centroids change, in the order in which they do
    std::vector<uint32_t> order;
    size_t next = 0;      ///< lists of `order` that are done
    float list_error = 0; ///< ModelFit's, of these centroids
    /// of all lists; else a few are divided, and `order` has these alone
    bool whole = true;
    /// lists near those of `order`, whose rows may be nearer to one of these then
    std::vector<uint32_t> neighbours;

    bool finished() const {
        return next == order.size();
    }
    size_t memory_usage() const {
        return centroids.size() * sizeof(float) + partition.memory_usage() +
               (order.size() + neighbours.size()) * sizeof(uint32_t);
    }
};

} // namespace faiss_ext
