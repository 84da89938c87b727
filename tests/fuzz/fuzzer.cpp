/* A libFuzzer program for the target FUZZ_TARGET; mutate.cpp makes inputs. */

#include <omp.h>

#include <faiss/utils/distances.h>

#include "targets.h"

/// What LLVM's OpenMP keeps for its threads is no leak of ours.
extern "C" const char* __lsan_default_suppressions() {
    return "leak:libomp";
}

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    omp_set_num_threads(1);
    // Faiss' k-means takes 16 MB a round, which cost more than all the rest
    faiss::distance_compute_blas_query_bs = 64;
    faiss::distance_compute_blas_database_bs = 64;
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::FUZZ_TARGET(fuzz::Bytes(data, size));
    return 0;
}
