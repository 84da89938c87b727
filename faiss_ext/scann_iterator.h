/*
 * A search that goes on: the rows of one query, some at a time, until all have
 * been given. IndexIVFScaNN::iterate() makes it.
 *
 *   auto rows = index.iterate(query, 100);
 *   while (size_t n = rows->next(distances, labels)) { ... }
 *
 * It keeps what it has scanned and rescored, so that k rows in pieces cost
 * about what one search for k costs, and have its recall:
 *  - The first rows come from the nprobe best lists, as those of a search do.
 *    Further lists are visited when the rows given are half of those that pass
 *    in the lists visited so far, in the end all lists.
 *  - Each row that passes the filter comes exactly once.
 *  - Rows of one batch come best first. A later batch may hold a row that is
 *    better than one given before: found later, in a list visited later. In
 *    strict order, at the cost of an exhaustive search: nprobe = nlist, and
 *    refine_k = reorder_k = ntotal.
 *
 * It sees the index as of the moment it was made: any change of rows makes
 * next() an error, as does the end of the index. For one thread at a time;
 * next() counts as a search of the index.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <faiss_ext/export.h>

namespace faiss_ext {

class FAISS_EXT_API ScaNNIterator {
 public:
    ~ScaNNIterator();
    ScaNNIterator(const ScaNNIterator&) = delete;
    ScaNNIterator& operator=(const ScaNNIterator&) = delete;

    /** The next rows. If it throws, no row is lost: the next call gives them.
     * @param distances, labels  out, size batch(), best first; label -1 beyond
     *        the rows given
     * @return  how many, less than batch() only at the end; then 0
     * @throws faiss::FaissException if the index has changed or is gone */
    size_t next(float* distances, int64_t* labels);

    /// Rows of a call of next(), at most.
    size_t batch() const;
    /// Whether the index has changed or is gone, so that next() would throw.
    bool stale() const;

 private:
    friend class IndexIVFScaNN;
    struct Impl;
    explicit ScaNNIterator(std::unique_ptr<Impl> impl);

    std::unique_ptr<Impl> impl_;
};

} // namespace faiss_ext
