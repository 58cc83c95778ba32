// Judges Kubernetes objects as GitOps tools do: with kstatus' own library, with Flux's evaluator of healthCheckExprs, and with
// gopher-lua set up as Argo CD sets it up for health scripts. Reads one JSON document from the standard input and writes one;
// owns nothing else.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	fluxstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type question struct {
	// As an API server would send them.
	Objects []json.RawMessage `json:"objects"`
	// Argo CD's scripts, by GROUP/KIND.
	HealthLua map[string]string `json:"healthLua"`
	// Flux's expressions, as a Kustomization has them.
	HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
}

// What one tool says of one object; error when it could not say anything.
type opinion struct {
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

type verdict struct {
	Kstatus opinion `json:"kstatus"`
	// Flux and Helm have a kstatus of their own, which is asked where there are no expressions.
	FluxKstatus opinion  `json:"fluxKstatus"`
	Argo        *opinion `json:"argo,omitempty"`
	Flux        *opinion `json:"flux,omitempty"`
}

func askKstatus(object *unstructured.Unstructured) opinion {
	result, err := status.Compute(object)
	if err != nil {
		return opinion{Error: err.Error()}
	}
	return opinion{Status: result.Status.String(), Message: result.Message}
}

func askFluxKstatus(object *unstructured.Unstructured) opinion {
	result, err := fluxstatus.Compute(object)
	if err != nil {
		return opinion{Error: err.Error()}
	}
	return opinion{Status: result.Status.String(), Message: result.Message}
}

func askFlux(evaluator *cel.StatusEvaluator, object *unstructured.Unstructured) opinion {
	result, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return opinion{Error: err.Error()}
	}
	return opinion{Status: result.Status.String(), Message: result.Message}
}

// Argo CD gives its users' scripts these libraries alone, unless an administrator opens all of them.
var libraries = []struct {
	name string
	open lua.LGFunction
}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}}

func askArgo(script string, object *unstructured.Unstructured) opinion {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range libraries {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return opinion{Error: err.Error()}
		}
	}
	// Its limit is a second; a test must not fail because the machine is busy.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", luaValue(state, object.Object))
	if err := state.DoString(script); err != nil {
		return opinion{Error: err.Error()}
	}
	returned, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return opinion{Error: fmt.Sprintf("the script returned no table but %s", state.Get(-1).Type())}
	}
	encoded, err := luajson.Encode(returned)
	if err != nil {
		return opinion{Error: err.Error()}
	}
	var said opinion
	if err := json.Unmarshal(encoded, &said); err != nil {
		return opinion{Error: err.Error()}
	}
	return said
}

func luaValue(state *lua.LState, value any) lua.LValue {
	switch known := value.(type) {
	case bool:
		return lua.LBool(known)
	case string:
		return lua.LString(known)
	case int64:
		return lua.LNumber(known)
	case float64:
		return lua.LNumber(known)
	case []any:
		table := state.CreateTable(len(known), 0)
		for _, item := range known {
			table.Append(luaValue(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(known))
		for key, item := range known {
			table.RawSetString(key, luaValue(state, item))
		}
		return table
	}
	return lua.LNil
}

func answer(asked question) ([]verdict, error) {
	evaluators := map[string]*cel.StatusEvaluator{}
	for _, check := range asked.HealthCheckExprs {
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		if err != nil {
			return nil, fmt.Errorf("healthCheckExprs of %s: %w", check.Kind, err)
		}
		evaluators[check.APIVersion+"/"+check.Kind] = evaluator
	}
	verdicts := make([]verdict, 0, len(asked.Objects))
	for _, raw := range asked.Objects {
		object := &unstructured.Unstructured{}
		// Tells whole numbers from fractions, as clients of an API server do.
		if err := object.UnmarshalJSON(raw); err != nil {
			return nil, err
		}
		given := verdict{Kstatus: askKstatus(object), FluxKstatus: askFluxKstatus(object)}
		kind := object.GroupVersionKind()
		if script, ok := asked.HealthLua[kind.Group+"/"+kind.Kind]; ok {
			said := askArgo(script, object)
			given.Argo = &said
		}
		if evaluator, ok := evaluators[object.GetAPIVersion()+"/"+kind.Kind]; ok {
			said := askFlux(evaluator, object)
			given.Flux = &said
		}
		verdicts = append(verdicts, given)
	}
	return verdicts, nil
}

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	verdicts, err := answer(asked)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(verdicts)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
