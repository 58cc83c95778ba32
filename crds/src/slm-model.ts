/** SLMModel: what the bytes are, how they are checked and where they are pulled ahead of use. */
import type { Static } from 'typebox';
import { digest, type ObjectMeta, secretRef, tolerations } from './common.ts';
import { labelSelector } from './label-selector.ts';
import { modelDefaultsFields } from './model-defaults.ts';
import { boolean, list, mapOf, object, optional, text, word } from './schema.ts';
import type { SLMModelStatus } from './slm-model-status.ts';

const source = object(
  {
    uri: text({
      max: 1024,
      min: 8,
      description:
        'Where the weights are: hf://ORG/REPO[@REVISION][/FILE or /FOLDER] or https://HOST/FILE. A branch or tag is resolved once to a commit; a changed uri makes a new revision. An ONNX model comes out of a repository, because its tokenizer belongs to it.',
      rules: [
        {
          rule: "self.startsWith('https://') || self.startsWith('http://') || self.startsWith('hf://')",
          message: 'must start with hf:// or https://; this release pulls from no other kind of source',
        },
        {
          rule: "!self.startsWith('hf://') || self.matches('^hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9][A-Za-z0-9._-]*)?(/[^@?#]+)?$')",
          message: 'must be hf://ORG/REPO, hf://ORG/REPO@REVISION or either with /FILE or /FOLDER after it',
        },
        {
          rule: "self.startsWith('hf://') || self.matches('^https?://[^/@?#]+/[^#]*[^/#]$')",
          message:
            'must name one file, as in https://host/folder/model.gguf, without user, password or #fragment; credentials go into source.secretRef',
        },
        { rule: "!self.contains('/../') && !self.endsWith('/..')", message: 'must not contain ..' },
      ],
    }),
    files: optional(
      list(
        text({
          max: 256,
          min: 1,
          description: 'Glob such as *.gguf or onnx/**.',
          rules: [
            {
              rule: "!self.contains('..') && !self.startsWith('/')",
              message: 'must be a path inside the repository, without .. or a leading /',
            },
          ],
        }),
        {
          max: 64,
          set: true,
          description:
            'Which files of a hf:// repository to take. Default: the only .gguf file there is; without one the ONNX model: of the only genai_config.json, else model_quantized.onnx (8 bit), else model.onnx, else the only .onnx file. Tokenizer, settings and external data of an ONNX model come along unnamed.',
        },
      ),
    ),
    secretRef: optional(secretRef),
    endpoint: optional(
      text({
        max: 512,
        pattern: '^https?://[^/@?#]+(/[^?#]*)?$',
        description:
          'Base address of a mirror that speaks the Hugging Face Hub API, for hf:// sources. Default: the operator configuration, https://huggingface.co.',
      }),
    ),
    insecure: optional(
      boolean({ description: 'Allow http:// in uri or endpoint. The digest is still checked. Default false.' }),
    ),
    caBundleRef: optional(
      object(
        {
          kind: word(['ConfigMap', 'Secret'], { description: 'Kind of the object.' }),
          name: text({ max: 253, min: 1, description: 'Its name, in the same namespace.' }),
          key: optional(text({ max: 253, min: 1, description: 'Key with the PEM bundle. Default ca.crt.' })),
        },
        { description: 'Certificate authorities to trust for this source, besides the public ones.' },
      ),
    ),
  },
  {
    description: 'Where the weights come from.',
    rules: [
      {
        rule: "!self.uri.startsWith('http://') || (has(self.insecure) && self.insecure)",
        message: 'an http:// uri needs source.insecure: true; write https:// where the server has it',
      },
      {
        rule: "!has(self.endpoint) || !self.endpoint.startsWith('http://') || (has(self.insecure) && self.insecure)",
        message: 'an http:// endpoint needs source.insecure: true; write https:// where the server has it',
      },
      {
        rule: "!has(self.endpoint) || self.uri.startsWith('hf://')",
        message: 'source.endpoint is for hf:// sources; for others put the host into source.uri',
      },
      {
        rule: "!has(self.files) || self.uri.startsWith('hf://')",
        message: 'source.files is for hf:// repositories; an https:// uri names one file itself',
      },
      {
        rule: "!has(self.files) || !self.uri.matches('^hf://[^/]+/[^/]+/.+')",
        message: 'give either a file in source.uri or globs in source.files, not both',
      },
    ],
  },
);

export const SLMModelSpec = object(
  {
    source,
    variants: optional(
      list(
        object(
          {
            name: text({
              max: 32,
              min: 1,
              pattern: '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$',
              description: 'Name of the variant, such as fp16 or int4-npu.',
            }),
            accelerators: list(
              text({
                max: 32,
                min: 1,
                pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
                description: 'A class (npu, gpu, cpu) or a profile such as nvidia.',
              }),
              {
                max: 16,
                min: 1,
                set: true,
                description: 'Hardware that this file is for. A profile goes before a class.',
              },
            ),
            uri: source.properties.uri,
            files: source.properties.files,
            digest: optional(
              digest(
                'sha256:HEX that it must have, as integrity.digest is for source: of the file where there is one file, of the revision where there are several. Needed for https://.',
              ),
            ),
            format: optional(
              word(['Auto', 'GGUF', 'ONNX'], { description: 'What the files must be. Default Auto: told by them.' }),
            ),
          },
          {
            description: 'Another file of the same model, for other hardware.',
            rules: [
              {
                rule: "!self.uri.startsWith('http') || has(self.digest)",
                message:
                  'an https:// uri of a variant needs its digest: sha256:HEX (what sha256sum prints for the file)',
              },
              {
                rule: "!has(self.files) || self.uri.startsWith('hf://')",
                message: 'files of a variant is for hf:// repositories; an https:// uri names one file itself',
              },
              {
                rule: "!has(self.files) || !self.uri.matches('^hf://[^/]+/[^/]+/.+')",
                message: 'give a variant either a file in its uri or globs in files, not both',
              },
            ],
          },
        ),
        {
          max: 16,
          keys: ['name'],
          description:
            'Files of the same model for other hardware; source is for all the rest. Credentials, endpoint and certificates are those of source; the credentials go only to the host that source is on.',
          rules: [
            {
              rule: 'self.all(one, one.accelerators.all(name, self.exists_one(other, name in other.accelerators)))',
              message:
                'two variants name the same accelerator, so that it is open which of them it gets: name each class and each profile in one variant only',
            },
          ],
        },
      ),
    ),
    integrity: optional(
      object(
        {
          digest: optional(
            digest(
              'sha256:HEX that the source must have: of the file where there is one file, of the revision (status.latestRevision.digest) where there are several. Each variant has a digest of its own.',
            ),
          ),
        },
        { description: 'How the bytes are checked.' },
      ),
    ),
    prePull: optional(
      object(
        {
          policy: optional(
            word(['OnDemand', 'Nodes', 'None'], {
              description:
                'OnDemand (default): to the nodes where a deployment of this model may run. Nodes: to every node that matches, used or not. None: to a node when the first pod mounts it there. Of a model with variants each node gets the files that its hardware computes.',
            }),
          ),
          nodeSelector: optional(
            mapOf(text({ max: 63, description: 'Value of the label.' }), {
              max: 32,
              description: 'Labels of the nodes for policy Nodes. Default: all nodes.',
            }),
          ),
          tolerations: optional(tolerations),
        },
        {
          description: 'Where the bytes are pulled before a pod needs them.',
          rules: [
            {
              rule: "!has(self.nodeSelector) || (has(self.policy) && self.policy == 'Nodes')",
              message:
                'prePull.nodeSelector needs prePull.policy: Nodes; with OnDemand the deployments decide the nodes',
            },
            {
              rule: "!has(self.tolerations) || (has(self.policy) && self.policy == 'Nodes')",
              message:
                'prePull.tolerations needs prePull.policy: Nodes; with OnDemand the deployments decide the nodes',
            },
          ],
        },
      ),
    ),
    ...modelDefaultsFields,
    allowedNamespaces: optional(
      object(
        {
          from: optional(
            word(['Same', 'All', 'Selector'], {
              description:
                'Same: this namespace alone. All: every namespace. Selector: this one, and those with the labels of selector. Default Same.',
            }),
          ),
          selector: optional(
            labelSelector('Labels of the namespaces, for from: Selector. An empty one matches every namespace.'),
          ),
        },
        {
          description:
            'Namespaces whose SLMDeployments may serve this model, by modelRef.namespace. They get its bytes, read-only, and nothing of its Secrets.',
          rules: [
            {
              rule: "has(self.selector) == (has(self.from) && self.from == 'Selector')",
              message: 'allowedNamespaces.selector and from: Selector go together; from Same and All have no selector',
            },
          ],
        },
      ),
    ),
    suspend: optional(boolean({ description: 'Stop resolving and pulling; what is cached stays. Default false.' })),
  },
  {
    description: 'What the weights are.',
    rules: [
      {
        rule: "!has(self.variants) || (has(self.source.insecure) && self.source.insecure) || self.variants.all(one, !one.uri.startsWith('http://'))",
        message: 'an http:// uri of a variant needs source.insecure: true; write https:// where the server has it',
      },
      {
        rule: "!self.source.uri.startsWith('http') || (has(self.integrity) && has(self.integrity.digest))",
        message:
          'an https:// source needs integrity.digest: sha256:HEX (what sha256sum prints for the file), because the server could change the file at any time',
      },
    ],
  },
);
export type SLMModelSpec = Static<typeof SLMModelSpec>;

/** A model. */
export interface SLMModel {
  readonly apiVersion: string;
  readonly kind: 'SLMModel';
  readonly metadata: ObjectMeta;
  readonly spec: SLMModelSpec;
  readonly status?: SLMModelStatus;
}
