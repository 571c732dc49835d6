// Small checkpoints with random weights in the Hugging Face layout. Every weight can be held exactly by the type that it is
// stored in, so that the arithmetic of reference.mjs begins with the very same numbers.
import fs from 'node:fs'
import path from 'node:path'

// A tensor: its shape, outermost first, and its values in double precision.
export class Tensor {
  constructor(shape, values) {
    this.shape = shape
    this.values = values ?? new Float64Array(shape.reduce((a, b) => a * b, 1))
  }
}

// Numbers from a seed: the same on every machine.
export class Random {
  constructor(seed) { this.state = seed >>> 0 }
  next() {  // 32 bits
    this.state = (this.state + 0x9e3779b9) >>> 0
    let z = this.state
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
    return (z ^ (z >>> 16)) >>> 0
  }
  // Even, about `size` large around `middle`, with as many bits as every stored type holds exactly: a sign and 7,
  // fewer beside a middle, which takes some.
  tensor(shape, size, middle = 0) {
    const tensor = new Tensor(shape)
    const bits = middle === 0 ? 7 : 5
    const step = 2 ** (Math.round(Math.log2(size)) - bits + 1)
    const half = 2 ** bits - 0.5
    for (let i = 0; i < tensor.values.length; i++) tensor.values[i] = middle + Math.trunc((this.next() >>> (31 - bits)) - half) * step
    return tensor
  }
}

function halfBits(value) {
  if (value === 0) return 0
  const sign = value < 0 ? 0x8000 : 0
  const size = Math.abs(value)
  const exponent = Math.max(Math.floor(Math.log2(size)), -14)
  const mantissa = size / 2 ** exponent * 1024
  if (!Number.isInteger(mantissa) || exponent > 15) throw new Error(`${value} is no half precision number`)
  return sign | (mantissa >= 1024 ? (exponent + 15 << 10) + mantissa - 1024 : mantissa)
}

const view = new DataView(new ArrayBuffer(4))
function brainBits(value) {
  view.setFloat32(0, value)
  if (view.getUint16(2) !== 0) throw new Error(`${value} is no bfloat16 number`)
  return view.getUint16(0)
}

function encode(tensor, type) {
  const width = type === 'F32' ? 4 : 2
  const out = Buffer.alloc(tensor.values.length * width)
  tensor.values.forEach((value, i) => {
    if (type === 'F32') out.writeFloatLE(value, i * 4)
    else out.writeUInt16LE(type === 'F16' ? halfBits(value) : brainBits(value), i * 2)
  })
  return out
}

export function writeSafetensors(file, tensors, type) {
  const header = {__metadata__: {format: 'pt'}}
  const parts = []
  let at = 0
  for (const [name, tensor] of Object.entries(tensors)) {
    const bytes = encode(tensor, type)
    header[name] = {dtype: type, shape: tensor.shape, data_offsets: [at, at + bytes.length]}
    at += bytes.length
    parts.push(bytes)
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  fs.writeFileSync(file, Buffer.concat([length, text, ...parts]))
}

// `shards`: into how many files the tensors are dealt, with an index beside them.
export function writeCheckpoint(folder, {config, tensors, type, shards = 1, files = {}}) {
  fs.mkdirSync(folder, {recursive: true})
  for (const [name, content] of Object.entries({'config.json': config, ...files})) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), {recursive: true})
    fs.writeFileSync(path.join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  if (shards === 1) {
    writeSafetensors(path.join(folder, 'model.safetensors'), tensors, type)
    return
  }
  const names = Object.keys(tensors)
  const map = {}
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-${String(shard + 1).padStart(5, '0')}-of-${String(shards).padStart(5, '0')}.safetensors`
    const own = names.filter((_, i) => i % shards === shard)
    for (const name of own) map[name] = file
    writeSafetensors(path.join(folder, file), Object.fromEntries(own.map(name => [name, tensors[name]])), type)
  }
  fs.writeFileSync(path.join(folder, 'model.safetensors.index.json'), JSON.stringify({metadata: {}, weight_map: map}))
}

// ---- the weights of each family, by the names that Transformers gives them

export function decoderTensors(config, seed, {prefix = 'model.', biases = [], headNorms = false} = {}) {
  const random = new Random(seed)
  const {hidden_size: width, intermediate_size: inner, vocab_size: vocabulary} = config
  const head = config.head_dim ?? width / config.num_attention_heads
  const lengths = {
    q_proj: [config.num_attention_heads * head, width], k_proj: [config.num_key_value_heads * head, width],
    v_proj: [config.num_key_value_heads * head, width], o_proj: [width, config.num_attention_heads * head],
  }
  const out = {}
  const matrix = (name, rows, columns) => { out[name] = random.tensor([rows, columns], 1 / Math.sqrt(columns)) }
  const norm = (name, n) => { out[name] = random.tensor([n], 0.25, 1) }
  out[`${prefix}embed_tokens.weight`] = random.tensor([vocabulary, width], 1)
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `${prefix}layers.${i}.`
    norm(`${layer}input_layernorm.weight`, width)
    for (const [name, [rows, columns]] of Object.entries(lengths)) {
      matrix(`${layer}self_attn.${name}.weight`, rows, columns)
      if (biases.includes(name)) out[`${layer}self_attn.${name}.bias`] = random.tensor([rows], 0.25)
    }
    if (headNorms) for (const name of ['q_norm', 'k_norm']) norm(`${layer}self_attn.${name}.weight`, head)
    norm(`${layer}post_attention_layernorm.weight`, width)
    matrix(`${layer}mlp.gate_proj.weight`, inner, width)
    matrix(`${layer}mlp.up_proj.weight`, inner, width)
    matrix(`${layer}mlp.down_proj.weight`, width, inner)
  }
  norm(`${prefix}norm.weight`, width)
  if (!config.tie_word_embeddings) matrix('lm_head.weight', vocabulary, width)
  return out
}

export function encoderTensors(config, seed, prefix = '') {
  const random = new Random(seed)
  const {hidden_size: width, intermediate_size: inner} = config
  const out = {}
  const dense = (name, rows, columns) => {
    out[`${name}.weight`] = random.tensor([rows, columns], 1 / Math.sqrt(columns))
    out[`${name}.bias`] = random.tensor([rows], 0.25)
  }
  const norm = name => {
    out[`${name}.weight`] = random.tensor([width], 0.25, 1)
    out[`${name}.bias`] = random.tensor([width], 0.25)
  }
  const embeddings = `${prefix}embeddings.`
  out[`${embeddings}word_embeddings.weight`] = random.tensor([config.vocab_size, width], 1)
  out[`${embeddings}position_embeddings.weight`] = random.tensor([config.max_position_embeddings, width], 0.25)
  out[`${embeddings}token_type_embeddings.weight`] = random.tensor([config.type_vocab_size, width], 0.25)
  norm(`${embeddings}LayerNorm`)
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `${prefix}encoder.layer.${i}.`
    for (const name of ['query', 'key', 'value']) dense(`${layer}attention.self.${name}`, width, width)
    dense(`${layer}attention.output.dense`, width, width)
    norm(`${layer}attention.output.LayerNorm`)
    dense(`${layer}intermediate.dense`, inner, width)
    dense(`${layer}output.dense`, width, inner)
    norm(`${layer}output.LayerNorm`)
  }
  dense(`${prefix}pooler.dense`, width, width)
  return out
}
