/**
 * Owns what the CUDA image brings beside the engine: NVIDIA's libraries that the backends are linked to, and ONNX Runtime's CUDA
 * provider. Never the driver's own libraries (libcuda.so.1): those must fit the kernel module, so the node puts them into the container.
 */
import path from 'node:path';
import { type WheelPin, wheelFolder } from '../unpacked.ts';
import { type Entry, file } from './entries.ts';

/** Of CUDA 13.1, which llama.cpp's backend was compiled with; ONNX Runtime's with 13.0. Drivers from 580 on run it. */
const RUNTIME: readonly (WheelPin & { readonly libraries: readonly string[] })[] = [
  {
    name: 'nvidia-cuda-runtime',
    version: '13.1.80',
    sha256: 'dac25b52e69050e5a7a84957e6df470a85b185f8f648a99a1ab1dfce027576cf',
    libraries: ['libcudart.so.13'],
  },
  {
    name: 'nvidia-cublas',
    version: '13.2.1.1',
    sha256: '8c13c93cf8be4480b4909905c96d2d31575b4af43fcd3af0e84af94762665e4f',
    libraries: ['libcublas.so.13', 'libcublasLt.so.13'],
  },
  {
    name: 'nvidia-curand',
    version: '10.4.1.81',
    sha256: '6ea66d0de7e71472b800829b525df15027bd3d8d0c475778a4d2b2abc7b453bb',
    libraries: ['libcurand.so.10'],
  },
];

/** Built from the same commit as the library in onnxruntime-node, whose version it must have: they share C++ classes. */
const PROVIDER: WheelPin = {
  name: 'onnxruntime-gpu',
  version: '1.30.0',
  sha256: '6acc0f4b3d5ac5f2984432faa59dd8fcce6775f8b43a7140afa0f322c7a703b1',
};
export const PROVIDER_VERSION = PROVIDER.version;
/** Everything that is fetched for the image. */
export const cudaPins: readonly WheelPin[] = [...RUNTIME, PROVIDER];

/** Libraries of NVIDIA's driver: the container toolkit, or the cloud's device plugin, mounts them. */
export const DRIVER_LIBRARIES = ['libcuda.so.1'];

/**
 * Where the driver's libraries are found, whoever mounts them: the device plugin of GKE, the container toolkit in an image that it takes
 * for no Debian, and CDI, which keeps the host's path.
 */
export const CUDA_ENV = {
  LD_LIBRARY_PATH: '/usr/local/nvidia/lib64:/usr/local/nvidia/lib:/usr/lib64:/usr/lib/x86_64-linux-gnu',
  // Which parts of the driver. Not which GPUs: `all` here would give every GPU to pods that asked for none.
  NVIDIA_DRIVER_CAPABILITIES: 'compute,utility',
} as const;

/** CUDA's libraries, as entries in the folder `at`. */
export async function cudaEntries(at: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const pin of RUNTIME) {
    const folder = await wheelFolder(pin);
    for (const name of pin.libraries)
      entries.push(file(`${at}/${name}`, path.join(folder, 'nvidia/cu13/lib', name), 0o755));
    const distribution = `${pin.name.replaceAll('-', '_')}-${pin.version}.dist-info`;
    entries.push(
      file(`usr/share/doc/${pin.name}/License.txt`, path.join(folder, distribution, 'licenses/License.txt')),
    );
  }
  return entries;
}

/** ONNX Runtime's CUDA provider; ONNX Runtime looks for it beside its own library. */
export async function cudaProvider(at: string): Promise<Entry[]> {
  const folder = path.join(await wheelFolder(PROVIDER), 'onnxruntime/capi');
  return ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'].map((name) =>
    file(`${at}/${name}`, path.join(folder, name), 0o755),
  );
}
