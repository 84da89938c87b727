/*
 * An index that is written to while it is searched.
 *
 * One thread at a time changes it; any number of threads search versions of it.
 * A version is the index as of the end of a change: it stays as it is for as
 * long as somebody holds it, whatever is changed meanwhile, and shares its memory
 * with the versions around it, but for the lists that differ. So a search never
 * waits for a change, sees all of it or nothing, and needs no lock.
 *
 *     VersionedScaNN index(std::move(filled));
 *     index.change([&](IndexIVFScaNN& i) { i.add_with_ids(n, x, ids); });
 *     index.version()->search(nq, queries, k, distances, labels); // elsewhere
 *
 * What changes cost beside those of a plain index: for each list that gets rows,
 * a copy of its packed codes; for each list that loses rows or whose rows are
 * replaced, a copy of all that it holds. Memory that no version shows any more
 * is freed when the last version that does is given back.
 */

#pragma once

#include <functional>
#include <memory>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/export.h>

namespace faiss_ext {

class FAISS_EXT_API VersionedScaNN {
 public:
    /// As immutable as `const` says, for any number of threads at once; without
    /// a direct map, and with memory_usage() of what it shows, without room for
    /// more. Outlives the index, if need be.
    using Version = std::shared_ptr<const IndexIVFScaNN>;

    /// @param index  trained, and not used elsewhere from now on
    /// @throws faiss::FaissException if it is not trained
    explicit VersionedScaNN(std::unique_ptr<IndexIVFScaNN> index);
    VersionedScaNN(const VersionedScaNN&) = delete;
    VersionedScaNN& operator=(const VersionedScaNN&) = delete;
    ~VersionedScaNN();

    /// The index as of the last change that has ended; never waits for one.
    Version version() const;

    /** Calls change(index), whose end publishes a version. If it throws, the
     * index is as it was.
     * @throws faiss::FaissException at once while another call changes it */
    void change(const std::function<void(IndexIVFScaNN&)>& change);
    /// Calls read(index) while no other call changes it, and waits for that: for
    /// what versions do not have, such as a direct map.
    void read(const std::function<void(const IndexIVFScaNN&)>& read) const;
    /// IndexIVFScaNN::maintain(); publishes a version after each of its steps,
    /// so that memory for the lists of one step is enough.
    ScaNNMaintenance maintain(size_t rows = 0, double seconds = 0);

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace faiss_ext
