/**
 * Owns what the CUDA image brings beside the engine: NVIDIA's libraries that the backends are linked to, and ONNX Runtime's CUDA
 * provider. Never the driver's own libraries (libcuda.so.1): those must fit the kernel module, so the node puts them into the container.
 */
import path from 'node:path';
import { type WheelPin, wheelFolder } from '../unpacked.ts';
import { type Entry, file } from './entries.ts';

/** A wheel of NVIDIA's, and what of it the image gets. */
interface CudaPin extends WheelPin {
  /** Folder in the wheel. */
  readonly folder: string;
  readonly libraries: readonly string[];
  readonly licence: string;
}

const pin = (
  name: string,
  version: string,
  sha256: string,
  folder: string,
  libraries: string[],
  licence: string,
): CudaPin => ({
  name,
  version,
  sha256,
  folder,
  libraries,
  licence: `${name.replaceAll('-', '_')}-${version}.dist-info/${licence}`,
});

/** Releases of CUDA that llama.cpp's backends were compiled with. */
export type CudaRelease = 12 | 13;

const RUNTIMES: Readonly<Record<CudaRelease, readonly CudaPin[]>> = {
  // ONNX Runtime's provider was compiled with 13.0, llama.cpp's backend with 13.1. Drivers from 580 on run both.
  13: [
    pin(
      'nvidia-cuda-runtime',
      '13.1.80',
      'dac25b52e69050e5a7a84957e6df470a85b185f8f648a99a1ab1dfce027576cf',
      'nvidia/cu13/lib',
      ['libcudart.so.13'],
      'licenses/License.txt',
    ),
    pin(
      'nvidia-cublas',
      '13.2.1.1',
      '8c13c93cf8be4480b4909905c96d2d31575b4af43fcd3af0e84af94762665e4f',
      'nvidia/cu13/lib',
      ['libcublas.so.13', 'libcublasLt.so.13'],
      'licenses/License.txt',
    ),
    pin(
      'nvidia-curand',
      '10.4.1.81',
      '6ea66d0de7e71472b800829b525df15027bd3d8d0c475778a4d2b2abc7b453bb',
      'nvidia/cu13/lib',
      ['libcurand.so.10'],
      'licenses/License.txt',
    ),
  ],
  // Drivers from 525 on.
  12: [
    pin(
      'nvidia-cuda-runtime-cu12',
      '12.4.127',
      '64403288fa2136ee8e467cdc9c9427e0434110899d07c779f25b5c068934faa5',
      'nvidia/cuda_runtime/lib',
      ['libcudart.so.12'],
      'License.txt',
    ),
    pin(
      'nvidia-cublas-cu12',
      '12.4.5.8',
      '2fc8da60df463fdefa81e323eef2e36489e1c94335b5358bcb38360adf75ac9b',
      'nvidia/cublas/lib',
      ['libcublas.so.12', 'libcublasLt.so.12'],
      'License.txt',
    ),
  ],
};

/** Built from the same commit as the library in onnxruntime-node, whose version it must have: they share C++ classes. */
const PROVIDER: WheelPin = {
  name: 'onnxruntime-gpu',
  version: '1.30.0',
  sha256: '6acc0f4b3d5ac5f2984432faa59dd8fcce6775f8b43a7140afa0f322c7a703b1',
};
export const PROVIDER_VERSION = PROVIDER.version;
/** Everything that is fetched for the image. */
export const cudaPins: readonly WheelPin[] = [...RUNTIMES[13], PROVIDER];

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
export async function cudaEntries(release: CudaRelease, at: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const wheel of RUNTIMES[release]) {
    const root = await wheelFolder(wheel);
    for (const name of wheel.libraries) entries.push(file(`${at}/${name}`, path.join(root, wheel.folder, name), 0o755));
    entries.push(file(`usr/share/doc/${wheel.name}/License.txt`, path.join(root, wheel.licence)));
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
