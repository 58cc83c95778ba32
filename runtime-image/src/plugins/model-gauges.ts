/**
 * What Prometheus reads of the models and of the process at the moment of asking. Owns these names; changes nothing.
 */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { Lifecycle, LoadedModel } from '../lifecycle.ts';

export function registerModelGauges(registry: Registry, lifecycle: Lifecycle): void {
  const { models } = lifecycle;
  const gauge = (name: string, help: string, labels: readonly string[], collect: (gauge: Gauge) => void) => {
    const made: Gauge = new Gauge({
      name,
      help,
      labelNames: labels,
      registers: [registry],
      collect: () => {
        // Models come and go.
        if (labels.length > 0) made.reset();
        collect(made);
      },
    });
  };

  // Counted where it happens; a model that is loaded anew begins at nothing, as after a restart.
  const counter = (name: string, help: string, labels: readonly string[], collect: (counter: Counter) => void) => {
    const made: Counter = new Counter({
      name,
      help,
      labelNames: labels,
      registers: [registry],
      collect: () => {
        made.reset();
        collect(made);
      },
    });
  };

  counter(
    'slm_speculation_tokens_total',
    'Tokens that were guessed ahead, by what the model made of them: accepted or rejected.',
    ['model', 'result'],
    (made) => {
      for (const { name: model, loaded } of models.entries) {
        const guesses = loaded?.engine.stats.guesses;
        if (!guesses) continue;
        made.inc({ model, result: 'accepted' }, guesses.right);
        made.inc({ model, result: 'rejected' }, guesses.made - guesses.right);
      }
    },
  );
  counter(
    'slm_engine_reloads_total',
    'Times that an engine which could compute nothing any more was loaded again in its process.',
    ['model'],
    (made) => {
      for (const { name: model, loaded } of models.entries)
        if (loaded) made.inc({ model }, loaded.engine.stats.reloads ?? 0);
    },
  );
  gauge('slm_requests_running', 'API requests that have begun and not ended.', [], (made) =>
    made.set(lifecycle.running),
  );
  gauge('slm_queue_depth', 'Requests that wait for a slot, or for their model to be loaded.', ['model'], (made) => {
    for (const { name: model, loaded, waiting } of models.entries)
      made.set({ model }, waiting + (loaded?.engine.stats.queued ?? 0));
  });
  gauge('slm_slots', 'Places for requests that are decoded together, by state.', ['model', 'state'], (made) => {
    for (const { name: model, loaded } of models.entries) {
      const stats = loaded?.engine.stats;
      made.set({ model, state: 'busy' }, stats?.slotsBusy ?? 0);
      made.set({ model, state: 'idle' }, stats ? stats.slotsTotal - stats.slotsBusy : 0);
    }
  });
  gauge(
    'slm_kv_cache_tokens',
    'Tokens whose keys and values are held (used), and that fit besides (free).',
    ['model', 'state'],
    (made) => {
      for (const { name: model, loaded } of models.entries) {
        if (!loaded) continue;
        const { info, stats } = loaded.engine;
        const used = stats.kvTokens ?? 0;
        made.set({ model, state: 'used' }, used);
        made.set({ model, state: 'free' }, Math.max(0, stats.slotsTotal * info.contextLength - used));
      }
    },
  );
  gauge('slm_model_loaded', 'Whether a model is loaded.', ['model'], (made) => {
    for (const { name: model, loaded } of models.entries) made.set({ model }, loaded ? 1 : 0);
  });
  gauge('slm_model_weights_bytes', 'Bytes of the weights of a loaded model, as in its files.', ['model'], (made) => {
    for (const { name: model, loaded } of models.entries)
      if (loaded) made.set({ model }, loaded.engine.info.model.size);
  });
  gauge('slm_model_load_seconds', 'How long loading a model took.', ['model'], (made) => {
    for (const { name: model, loaded } of models.entries) if (loaded) made.set({ model }, loaded.loadMs / 1000);
  });
  gauge(
    'slm_model_info',
    'What computes a loaded model, and on what; always 1.',
    ['model', 'engine', 'device', 'backend', 'architecture', 'quantization'],
    (made) => {
      for (const { name: model, loaded } of models.entries) {
        if (!loaded) continue;
        const { engine, device, backend, model: facts } = loaded.engine.info;
        const { architecture, quantization } = facts;
        made.set({ model, engine, device: device.class, backend, architecture, quantization }, 1);
      }
    },
  );
  gauge(
    'slm_device_info',
    'What a loaded model is computed on, as its library found it; always 1.',
    ['model', 'class', 'backend', 'name', 'execution_provider'],
    (made) => {
      for (const { name: model, loaded } of models.entries) {
        if (!loaded) continue;
        const { class: kind, backend, name, executionProvider = '' } = loaded.engine.info.device;
        made.set({ model, class: kind, backend, name, execution_provider: executionProvider }, 1);
      }
    },
  );
  const ofDevice = (name: string, help: string, value: (loaded: LoadedModel) => number | undefined) =>
    gauge(name, help, ['model'], (made) => {
      for (const { name: model, loaded } of models.entries) {
        const known = loaded && value(loaded);
        if (known !== undefined) made.set({ model }, known);
      }
    });
  ofDevice(
    'slm_device_fallback',
    'Whether the processor computes for want of a device that was to be preferred.',
    ({ engine }) => (engine.info.fallback === undefined ? 0 : 1),
  );
  ofDevice(
    'slm_device_layers',
    'Layers of a model that a GPU could compute.',
    ({ engine }) => engine.info.device.layers,
  );
  ofDevice(
    'slm_device_layers_offloaded',
    'Layers that the GPU computes.',
    ({ engine }) => engine.info.device.layersOffloaded,
  );
  ofDevice('slm_device_memory_bytes', 'Memory of the device.', ({ engine }) => engine.info.device.memoryBytes);
  ofDevice(
    'slm_device_used_bytes',
    'Memory of the device that a model takes.',
    ({ engine }) => engine.info.memory?.device,
  );
  ofDevice(
    'slm_start_tokens_per_second',
    'Tokens a second of one stream, measured when the model was loaded.',
    (loaded) => (loaded.engine.info.capabilities.generate ? loaded.tokensPerSecond : undefined),
  );
}
