/* A process with some Knowhere: says who serves "SCANN" after its libraries
 * were loaded. */

#include <cstdio>

#include "fake_host.h"

int main() {
    bool taken = fake_host::registered().count("SCANN") != 0;
    std::puts(taken ? "the plug-in" : "the host");
    return 0;
}
