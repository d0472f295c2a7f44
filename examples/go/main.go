// An HTTP service in front of densescan's classifiers: POST a picture file to /xray or /mri, and get JSON.
//
//	DENSESCAN_URL=localhost:8001 PORT=3000 ./service
//	curl --data-binary @film.png localhost:3000/xray
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	maxBytes = 64 << 20
	timeout  = 10 * time.Second
)

// What the caller of this service is told for what Triton said.
var answers = map[codes.Code]struct {
	status int
	text   string
}{
	codes.InvalidArgument:  {http.StatusBadRequest, "the body is no picture that can be read"},
	codes.Unavailable:      {http.StatusServiceUnavailable, "overloaded or starting: try again after a pause"},
	codes.DeadlineExceeded: {http.StatusGatewayTimeout, "no answer in time"},
}

type service struct{ classifier *Classifier }

func (s service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	task := strings.TrimPrefix(r.URL.Path, "/")
	if _, ok := positive[task]; !ok {
		fail(w, http.StatusNotFound, "there is /xray and /mri")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		fail(w, http.StatusMethodNotAllowed, "POST the bytes of a picture file")
		return
	}
	file, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			// A caller who is cut off while still sending does not hear the answer; one who goes on and on need not.
			_, _ = io.CopyN(io.Discard, r.Body, 4*maxBytes)
			fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d bytes", maxBytes))
		}
		return // else the caller has gone
	}
	// A caller who leaves takes the request back, at the server, too.
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	result, err := s.classifier.Classify(ctx, task, file)
	if err != nil {
		known, ok := answers[status.Code(err)]
		if !ok {
			log.Print(err)
			fail(w, http.StatusBadGateway, "the classifier failed")
			return
		}
		if known.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		fail(w, known.status, known.text)
		return
	}
	write(w, http.StatusOK, result)
}

func fail(w http.ResponseWriter, code int, text string) {
	write(w, code, map[string]string{"error": text})
}

func write(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the caller may have gone
}

func variable(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func run() error {
	classifier, err := NewClassifier(variable("DENSESCAN_URL", "localhost:8001"))
	if err != nil {
		return err
	}
	defer classifier.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:"+variable("PORT", "3000"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: service{classifier}, ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		<-ctx.Done()
		// Requests under way are answered first.
		last, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		ended <- server.Shutdown(last)
	}()
	fmt.Printf("listening on %d\n", listener.Addr().(*net.TCPAddr).Port)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
