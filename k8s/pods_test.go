package k8s_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// workloads are the objects that make pods.
func workloads(objects []object) []object {
	return slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return len(o.Spec.Template.Spec.Containers) == 0 })
}

// TestPodsAreRestricted checks what the restricted pod security standard asks, and a little more.
func TestPodsAreRestricted(t *testing.T) {
	for _, dir := range kustomizations(t) {
		for _, o := range workloads(render(t, dir)) {
			p := o.Spec.Template.Spec
			at := dir + ": " + o.Metadata.Name
			if s := p.SecurityContext; !s.RunAsNonRoot || s.RunAsUser == 0 || s.SeccompProfile.Type != "RuntimeDefault" || p.HostNetwork {
				t.Errorf("%s: the pod is not restricted: %+v", at, s)
			}
			if p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken {
				t.Errorf("%s: carries a token for the cluster's API", at)
			}
			for _, c := range append(p.InitContainers, p.Containers...) {
				for _, fault := range loose(c) {
					t.Errorf("%s: container %s: %s", at, c.Name, fault)
				}
			}
		}
	}
}

func loose(c container) []string {
	var faults []string
	s := c.SecurityContext
	for fault, bad := range map[string]bool{
		"may gain privileges":               s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation,
		"is privileged":                     s.Privileged,
		"may write to its root file system": !s.ReadOnlyRootFilesystem,
		"keeps capabilities":                len(s.Capabilities.Add) > 0 || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}),
		"has no memory limit":               c.Resources.Limits["memory"] == "",
		"asks for no memory or processor":   c.Resources.Requests["memory"] == "" || c.Resources.Requests["cpu"] == "",
		"has no readiness probe":            c.ReadinessProbe == nil,
		"has an image without a tag":        !slices.Contains([]byte(c.Image), ':'),
	} {
		if bad {
			faults = append(faults, fault)
		}
	}
	return faults
}

// TestNamesAgree follows every name in what can be applied to what it names.
func TestNamesAgree(t *testing.T) {
	for _, dir := range whole {
		t.Run(dir, func(t *testing.T) {
			objects := render(t, dir)
			objects = append(objects, parse(t, read(t, "secret.example.yaml"))...)
			for _, o := range objects {
				switch o.Kind {
				case "Deployment", "StatefulSet":
					checkWorkload(t, o, objects)
				case "Service":
					checkService(t, o, objects)
				case "NetworkPolicy":
					checkPolicy(t, o, objects)
				case "PodDisruptionBudget":
					labels, _ := o.Spec.Selector["matchLabels"].(map[string]any)
					selected(t, o, text(labels), objects)
				}
			}
		})
	}
}

// A cache beside the counts, or a full memory, must not reset quotas.
func TestQuotaRedisNeverEvicts(t *testing.T) {
	o := get(render(t, "redis"), "Deployment", "nexus-quota-redis")
	if o == nil {
		t.Fatal("there is no quota Redis")
	}
	args := o.Spec.Template.Spec.Containers[0].Args
	if at := slices.Index(args, "--maxmemory-policy"); at < 0 || args[at+1] != "noeviction" {
		t.Errorf("got %q", args)
	}
}

func checkWorkload(t *testing.T, o object, objects []object) {
	t.Helper()
	labels, _ := o.Spec.Selector["matchLabels"].(map[string]any)
	if !within(text(labels), o.Spec.Template.Metadata.Labels) {
		t.Errorf("%s selects other pods than its own", o.Metadata.Name)
	}
	p := o.Spec.Template.Spec
	if p.ServiceAccountName != "" && get(objects, "ServiceAccount", p.ServiceAccountName) == nil {
		t.Errorf("%s: there is no service account %s", o.Metadata.Name, p.ServiceAccountName)
	}
	volumes := map[string]bool{}
	for _, v := range p.Volumes {
		volumes[v.Name] = true
		for _, s := range v.Projected.Sources {
			for _, fault := range append(missing(objects, "ConfigMap", s.ConfigMap), missing(objects, "Secret", s.Secret)...) {
				t.Errorf("%s: volume %s: %s", o.Metadata.Name, v.Name, fault)
			}
		}
	}
	for _, c := range p.Containers {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s: there is no volume %s", o.Metadata.Name, m.Name)
			}
		}
		for _, e := range c.Env {
			if ref := e.ValueFrom.SecretKeyRef; ref.Name != "" && !hasKey(get(objects, "Secret", ref.Name), ref.Key) {
				t.Errorf("%s: the Secret %s of the example has no %s", o.Metadata.Name, ref.Name, ref.Key)
			}
		}
		checkProbes(t, o, c)
	}
}

func checkProbes(t *testing.T, o object, c container) {
	t.Helper()
	for _, p := range []*probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if p == nil {
			continue
		}
		port := ""
		if p.HTTPGet != nil {
			port = p.HTTPGet.Port
		}
		if p.TCPSocket != nil {
			port = p.TCPSocket.Port
		}
		if !hasPort(o, port) {
			t.Errorf("%s: a probe asks the port %q, which no container has", o.Metadata.Name, port)
		}
	}
}

func checkService(t *testing.T, o object, objects []object) {
	t.Helper()
	for _, w := range selected(t, o, text(o.Spec.Selector), objects) {
		for _, p := range o.Spec.Ports {
			if !hasPort(w, p.TargetPort) {
				t.Errorf("service %s: %s has no port %s", o.Metadata.Name, w.Metadata.Name, p.TargetPort)
			}
		}
	}
}

func checkPolicy(t *testing.T, o object, objects []object) {
	t.Helper()
	for _, w := range selected(t, o, o.Spec.PodSelector.MatchLabels, objects) {
		for _, rule := range o.Spec.Ingress {
			for _, p := range rule.Ports {
				if !hasPort(w, p.Port) {
					t.Errorf("network policy %s: %s has no port %s", o.Metadata.Name, w.Metadata.Name, p.Port)
				}
			}
		}
	}
}

// selected returns the workloads whose pods have labels; there must be one.
func selected(t *testing.T, o object, labels map[string]string, objects []object) []object {
	t.Helper()
	var found []object
	for _, w := range workloads(objects) {
		if len(labels) > 0 && within(labels, w.Spec.Template.Metadata.Labels) && w.Metadata.Namespace == o.Metadata.Namespace {
			found = append(found, w)
		}
	}
	if len(found) == 0 {
		t.Errorf("%s %s selects no pod", o.Kind, o.Metadata.Name)
	}
	return found
}

func text(m map[string]any) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = fmt.Sprint(v)
	}
	return out
}

func within(part, all map[string]string) bool {
	for k, v := range part {
		if all[k] != v {
			return false
		}
	}
	return len(part) > 0
}

func get(objects []object, kind, name string) *object {
	for i := range objects {
		if objects[i].Kind == kind && objects[i].Metadata.Name == name {
			return &objects[i]
		}
	}
	return nil
}

func hasKey(o *object, key string) bool {
	if o == nil {
		return false
	}
	_, data := o.Data[key]
	_, plain := o.StringData[key]
	return data || plain
}

func missing(objects []object, kind string, s source) []string {
	if s.Name == "" {
		return nil
	}
	o := get(objects, kind, s.Name)
	if o == nil {
		return []string{"there is no " + kind + " " + s.Name}
	}
	var faults []string
	listed := map[string]bool{}
	for _, item := range s.Items {
		listed[item.Key] = true
		if !hasKey(o, item.Key) {
			faults = append(faults, kind+" "+s.Name+" has no "+item.Key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.Data)) {
		if !listed[key] {
			faults = append(faults, kind+" "+s.Name+" has "+key+", which is not mounted")
		}
	}
	return faults
}

func hasPort(o object, name string) bool {
	for _, c := range o.Spec.Template.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name {
				return true
			}
		}
	}
	return false
}
