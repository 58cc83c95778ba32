module slm-operator/tools/probe

go 1.24
