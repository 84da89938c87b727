/* A libFuzzer program for the target FUZZ_TARGET; mutate.cpp makes inputs. */

#include <omp.h>

#include "targets.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    omp_set_num_threads(1);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::FUZZ_TARGET({data, size});
    return 0;
}
