// A program for pods of the cluster's own tests, whose image holds nothing else: it asks what a test wants to know from
// inside of a pod.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = "usage: probe lookup NAME | get URL | serve ADDRESS TEXT | mount DIRECTORY | sleep [NAME]"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	switch command := args[0]; {
	case command == "lookup" && len(args) == 2:
		addresses, err := net.DefaultResolver.LookupHost(ctx, args[1])
		fmt.Println(strings.Join(addresses, " "))
		return err
	case command == "get" && len(args) == 2:
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, args[1], nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(os.Stdout, response.Body)
		return err
	case command == "serve" && len(args) == 3:
		return http.ListenAndServe(args[1], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, args[2])
		}))
	case command == "mount" && len(args) == 2:
		if err := os.MkdirAll(args[1], 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("probe", args[1], "tmpfs", 0, ""); err != nil {
			return err
		}
		waitForEnd()
		return nil
	case command == "sleep":
		waitForEnd()
		return nil
	}
	return errors.New(usage)
}

func waitForEnd() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
}
