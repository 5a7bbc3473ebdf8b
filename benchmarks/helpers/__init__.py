"""What benchmarks and tests share: no benchmarks themselves."""
