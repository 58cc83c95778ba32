/**
 * What a manifest says of a model: which blob is what. Owns the media types of Ollama's registry; reads no file.
 */
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { parseDigest } from './names.ts';

export const MANIFEST_TYPE = 'application/vnd.docker.distribution.manifest.v2+json';
export const CONFIG_TYPE = 'application/vnd.docker.container.image.v1+json';

const PREFIX = 'application/vnd.ollama.image.';

export type LayerKind = 'model' | 'adapter' | 'projector' | 'template' | 'system' | 'params' | 'messages' | 'license';

const LayerSchema = Type.Object({
  mediaType: Type.String(),
  digest: Type.String(),
  size: Type.Integer({ minimum: 0 }),
});
export type Layer = Static<typeof LayerSchema>;

const Schema = Type.Object({
  schemaVersion: Type.Literal(2),
  mediaType: Type.Optional(Type.String()),
  config: LayerSchema,
  layers: Type.Array(LayerSchema, { maxItems: 1000 }),
});
export type Manifest = Static<typeof Schema>;

const validator = Compile(Schema);

/** @returns undefined for what is no manifest */
export function readManifest(text: string): Manifest | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!validator.Check(value)) return undefined;
  const layers = [value.config, ...value.layers];
  return layers.every((layer) => parseDigest(layer.digest) !== undefined) ? value : undefined;
}

export function mediaType(kind: LayerKind): string {
  return `${PREFIX}${kind}`;
}

export function layersOf(manifest: Manifest, kind: LayerKind): Layer[] {
  return manifest.layers.filter((layer) => layer.mediaType === mediaType(kind));
}

/** Every blob once, the config last. */
export function blobsOf({ layers, config }: Manifest): Layer[] {
  const blobs = new Map([...layers, config].map((layer) => [layer.digest, layer]));
  return [...blobs.values()];
}
