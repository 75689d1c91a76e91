#include "tests/reference/reference.h"
