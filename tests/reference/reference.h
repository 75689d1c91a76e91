// Slow, obvious versions in double of what the kernels compute: the truth of the kernel tests.
#pragma once
