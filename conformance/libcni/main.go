// Command libcni does with a network list what a container runtime does, through its library.
//
//	libcni add|check|del|cached LIST CONTAINER NETNS INTERFACE
//
// CNI_PATH, CNI_ARGS and CACHE_DIR are what they are for a runtime; CAP_ARGS holds capability arguments as JSON.
// The result of add, or the cached one, goes to stdout as JSON; an error to stderr, with exit status 1.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: libcni add|check|del|cached LIST CONTAINER NETNS INTERFACE")
		os.Exit(2)
	}
	result, err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if result != nil {
		if err := result.PrintTo(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func run(verb, file, container, netns, ifname string) (types.Result, error) {
	list, err := libcni.ConfListFromFile(file)
	if err != nil {
		return nil, err
	}
	capabilities, err := capabilityArguments()
	if err != nil {
		return nil, err
	}
	attachment := &libcni.RuntimeConf{
		ContainerID:    container,
		NetNS:          netns,
		IfName:         ifname,
		Args:           arguments(),
		CapabilityArgs: capabilities,
	}
	path := filepath.SplitList(os.Getenv("CNI_PATH"))
	config := libcni.NewCNIConfigWithCacheDir(path, os.Getenv("CACHE_DIR"), nil)
	switch verb {
	case "add":
		return config.AddNetworkList(context.Background(), list, attachment)
	case "check":
		return nil, config.CheckNetworkList(context.Background(), list, attachment)
	case "del":
		return nil, config.DelNetworkList(context.Background(), list, attachment)
	case "cached":
		return config.GetNetworkListCachedResult(list, attachment)
	}
	return nil, fmt.Errorf("unknown verb %s", verb)
}

func arguments() [][2]string {
	var pairs [][2]string
	for _, pair := range strings.Split(os.Getenv("CNI_ARGS"), ";") {
		if key, value, found := strings.Cut(pair, "="); found {
			pairs = append(pairs, [2]string{key, value})
		}
	}
	return pairs
}

func capabilityArguments() (map[string]interface{}, error) {
	text := os.Getenv("CAP_ARGS")
	if text == "" {
		return nil, nil
	}
	var capabilities map[string]interface{}
	err := json.Unmarshal([]byte(text), &capabilities)
	return capabilities, err
}
