/* main() of every test program: says which kernels run, skips (exit code 77)
 * what this machine cannot run. */

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include <gtest/gtest.h>

#include <faiss_ext/kernels/dispatch.h>

namespace {
constexpr int kSkipped = 77; // SKIP_RETURN_CODE in CMakeLists.txt
}

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    const char* wanted = std::getenv("SCANN_SIMD_LEVEL");
    if (wanted != nullptr) {
        auto levels = faiss_ext::simd_levels();
        if (std::find(levels.begin(), levels.end(), wanted) == levels.end()) {
            std::cout << "skipped: this CPU lacks " << wanted << std::endl;
            return kSkipped;
        }
    }
    std::string level = faiss_ext::simd_level();
    std::cout << "SIMD level " << level << std::endl;
    if (wanted != nullptr && level != wanted) {
        std::cout << "wanted " << wanted << std::endl;
        return 1;
    }
    int status = RUN_ALL_TESTS();
    const auto& result = *testing::UnitTest::GetInstance();
    bool none_ran = result.successful_test_count() == 0 &&
                    result.skipped_test_count() > 0;
    return status == 0 && none_ran ? kSkipped : status;
}
