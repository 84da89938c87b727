#include "index_handle.h"

#include <faiss_ext/index_factory.h>

#include "wrapped_index.h"

namespace faiss_ext::python {

IndexHandle::IndexHandle(std::unique_ptr<faiss::Index> index)
        : index_(std::move(index)),
          scann_(find_scann(index_.get())),
          ivf_(find_ivf(index_.get())) {}

} // namespace faiss_ext::python
