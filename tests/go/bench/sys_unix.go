package main

import (
	"os"
	"syscall"
)

func blocksOf(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

func fdatasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
