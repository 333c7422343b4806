// Package k8s_test renders every kustomization and holds it to what a cluster and the gateway would say:
// the fields exist, the names agree, the pods are restricted, the configuration they mount is taken.
package k8s_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// whole are the kustomizations that can be applied as they are; the others are parts.
var whole = []string{"overlays/mock"}

// An object is one rendered resource: as it is, and what the tests ask of it.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   metadata
	Spec       spec
	Data       map[string]string
	StringData map[string]string `yaml:"stringData"`
	raw        map[string]any
}

type metadata struct {
	Name, Namespace string
	Labels          map[string]string
}

// spec has the members of every kind; each kind fills its own.
type spec struct {
	Replicas int
	Selector map[string]any
	Template struct {
		Metadata metadata
		Spec     pod
	}
	Ports       []servicePort
	ClusterIP   string    `yaml:"clusterIP"`
	PodSelector selector  `yaml:"podSelector"`
	Ingress     []ingress `yaml:"ingress"`
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type ingress struct {
	From  []map[string]any
	Ports []struct{ Port string }
}

type servicePort struct {
	Name       string
	Port       int
	TargetPort string `yaml:"targetPort"`
}

type pod struct {
	ServiceAccountName            string `yaml:"serviceAccountName"`
	AutomountServiceAccountToken  *bool  `yaml:"automountServiceAccountToken"`
	TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		RunAsUser      int                   `yaml:"runAsUser"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	HostNetwork    bool        `yaml:"hostNetwork"`
	InitContainers []container `yaml:"initContainers"`
	Containers     []container
	Volumes        []volume
}

type port struct {
	Name          string
	ContainerPort int `yaml:"containerPort"`
}

type container struct {
	Name, Image   string
	Command, Args []string
	Env           []struct {
		Name, Value string
		ValueFrom   struct {
			SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	Ports          []port
	StartupProbe   *probe `yaml:"startupProbe"`
	LivenessProbe  *probe `yaml:"livenessProbe"`
	ReadinessProbe *probe `yaml:"readinessProbe"`
	Resources      struct {
		Requests, Limits map[string]string
	}
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Privileged               bool
		Capabilities             struct{ Add, Drop []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet   *struct{ Path, Port string } `yaml:"httpGet"`
	TCPSocket *struct{ Port string }       `yaml:"tcpSocket"`
}

type volume struct {
	Name      string
	EmptyDir  map[string]any `yaml:"emptyDir"`
	Projected struct{ Sources []projection }
}

type projection struct {
	ConfigMap, Secret source
}

func (p *projection) UnmarshalYAML(n *yaml.Node) error {
	var both struct {
		ConfigMap source `yaml:"configMap"`
		Secret    source
	}
	err := n.Decode(&both)
	p.ConfigMap, p.Secret = both.ConfigMap, both.Secret
	return err
}

type source struct {
	Name  string
	Items []struct{ Key, Path string }
}

func render(t testing.TB, dir string) []object {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text)
}

func parse(t testing.TB, text []byte) []object {
	t.Helper()
	var list []object
	for i, part := range strings.Split("\n"+string(text), "\n---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(part), &o); err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		if err := yaml.Unmarshal([]byte(part), &o.raw); err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
	return list
}

// kustomizations are the folders that have one, relative to this package.
func kustomizations(t *testing.T) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "kustomization.yaml" {
			dirs = append(dirs, filepath.Dir(path))
		}
		return err
	})
	if err != nil || len(dirs) < 3 {
		t.Fatalf("found %q, %v", dirs, err)
	}
	return dirs
}

func TestEverythingRenders(t *testing.T) {
	for _, dir := range kustomizations(t) {
		t.Run(dir, func(t *testing.T) {
			seen := map[string]bool{}
			for _, o := range render(t, dir) {
				name := o.Kind + " " + o.Metadata.Namespace + "/" + o.Metadata.Name
				if seen[name] {
					t.Errorf("%s stands twice", name)
				}
				seen[name] = true
				for _, fault := range unknownFields(o) {
					t.Errorf("%s: %s", name, fault)
				}
			}
		})
	}
	for _, o := range parse(t, read(t, "secret.example.yaml")) {
		for _, fault := range unknownFields(o) {
			t.Error(fault)
		}
	}
}

// What `kubectl apply -k` would send is what the tests look at.
func TestKubectlRendersTheSame(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("there is no kubectl")
	}
	for _, dir := range kustomizations(t) {
		out, err := exec.CommandContext(t.Context(), kubectl, "kustomize", dir).Output()
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		if got, want := sorted(parse(t, out)), sorted(render(t, dir)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: kubectl renders\n%s", dir, out)
		}
	}
}

// sorted puts objects into an order of their own: kubectl applies namespaces first, the library does not.
func sorted(objects []object) []object {
	slices.SortFunc(objects, func(a, b object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Metadata.Name, b.Metadata.Name))
	})
	return objects
}

// A cluster drops what it does not know without a word: a misspelt security setting is none.
func unknownFields(o object) []string {
	schema := openapi.SchemaForResourceType(kyaml.TypeMeta{APIVersion: o.APIVersion, Kind: o.Kind})
	if schema == nil {
		return []string{fmt.Sprintf("there is no kind %s in %s", o.Kind, o.APIVersion)}
	}
	return walk(schema, o.raw, "")
}

func walk(schema *openapi.ResourceSchema, v any, path string) []string {
	var faults []string
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			field := schema.Field(key)
			if field == nil {
				faults = append(faults, "no such field: "+path+"."+key)
				continue
			}
			faults = append(faults, walk(field, inner, path+"."+key)...)
		}
	case []any:
		for i, inner := range v {
			if items := schema.Elements(); items != nil {
				faults = append(faults, walk(items, inner, fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
	}
	return faults
}

func TestUnknownFieldsAreFound(t *testing.T) {
	text := `apiVersion: apps/v1
kind: Deployment
metadata: {name: x, labels: {any: thing}}
spec:
  template:
    spec:
      containers:
        - name: x
          securityContext: {readonlyRootFilesystem: true}
`
	faults := unknownFields(parse(t, []byte(text))[0])
	if want := "no such field: .spec.template.spec.containers[0].securityContext.readonlyRootFilesystem"; len(faults) != 1 || faults[0] != want {
		t.Errorf("got %q, want %q", faults, want)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
