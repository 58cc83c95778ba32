/** The bodies that change which models there are. Older clients say `name` where newer ones say `model`. */
import { Type } from 'typebox';
import { DefaultsFields } from '../modelfile/modelfile.ts';
import { flag, modelName, text } from './fields.ts';

const named = { model: Type.Optional(modelName), name: Type.Optional(modelName) };
const digests = Type.Record(Type.String(), Type.String(), { description: 'an object of file names and digests' });

export const TransferRequest = Type.Object({ ...named, insecure: Type.Optional(flag), stream: Type.Optional(flag) });

export const CreateRequest = Type.Object({
  ...named,
  ...DefaultsFields.properties,
  from: Type.Optional(modelName),
  files: Type.Optional(digests),
  adapters: Type.Optional(digests),
  modelfile: Type.Optional(text),
  path: Type.Optional(text),
  quantize: Type.Optional(text),
  quantization: Type.Optional(text),
  stream: Type.Optional(flag),
});

export const CopyRequest = Type.Object({ source: modelName, destination: modelName });

export const DeleteRequest = Type.Object(named);
