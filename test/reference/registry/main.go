// A registry of the distribution project over a folder of its own: what pull and push are tested against. Prints its address, and
// ends with its standard input.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	folder, err := os.MkdirTemp("", "registry-")
	if err != nil {
		panic(err)
	}
	config := &configuration.Configuration{
		Version: "0.1",
		Storage: configuration.Storage{"filesystem": configuration.Parameters{"rootdirectory": folder}},
	}
	config.Log.Level = "error"
	config.HTTP.Secret = "of a test"
	app := handlers.NewApp(context.Background(), config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = os.RemoveAll(folder)
		os.Exit(0)
	}()
	panic(http.Serve(listener, app))
}
