// The models once more, from the papers and Transformers' documentation, in double precision and one loop at a time.
// A state is an array of positions, each a Float64Array.

const dot = (a, b, at, n) => {
  let sum = 0
  for (let i = 0; i < n; i++) sum += a[i] * b[at + i]
  return sum
}

// weight · x + bias, for each position.
function linear(weights, name, states) {
  const {shape: [rows, columns], values} = weights[`${name}.weight`]
  const bias = weights[`${name}.bias`]?.values
  return states.map(x => Float64Array.from({length: rows}, (_, row) => dot(x, values, row * columns, columns) + (bias?.[row] ?? 0)))
}

const add = (a, b) => a.map((x, i) => x.map((value, j) => value + b[i][j]))

function rmsNorm(weight, epsilon, x) {
  const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + epsilon)
  return x.map((value, i) => value * scale * weight.values[i])
}

function layerNorm(weights, name, epsilon, x) {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length
  return x.map((value, i) => (value - mean) / Math.sqrt(variance + epsilon) * weights[`${name}.weight`].values[i] +
    weights[`${name}.bias`].values[i])
}

// Positions are turned in pairs of dimensions half a head apart.
function rotate(x, position, head, frequencies) {
  const out = Float64Array.from(x)
  for (let at = 0; at < x.length; at += head) {
    for (let i = 0; i < head / 2; i++) {
      const angle = position * frequencies[i], low = x[at + i], high = x[at + i + head / 2]
      out[at + i] = low * Math.cos(angle) - high * Math.sin(angle)
      out[at + i + head / 2] = high * Math.cos(angle) + low * Math.sin(angle)
    }
  }
  return out
}

// What each dimension pair turns by at each position; Llama 3.1 slows the slow ones down.
export function frequenciesOf(config, head) {
  const base = config.rope_theta ?? 10000
  const scaling = config.rope_scaling
  return Array.from({length: head / 2}, (_, i) => {
    const plain = base ** (-2 * i / head)
    if (!scaling) return plain
    if (scaling.rope_type === 'linear') return plain / scaling.factor
    if (scaling.rope_type !== 'llama3') throw new Error(`no reference for ${scaling.rope_type}`)
    const turns = scaling.original_max_position_embeddings * plain / (2 * Math.PI)  // within the old context
    if (turns < scaling.low_freq_factor) return plain / scaling.factor
    if (turns > scaling.high_freq_factor) return plain
    const share = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    return (1 - share) * plain / scaling.factor + share * plain
  })
}

function attend(queries, keys, values, {heads, kvHeads, head, causal}) {
  return queries.map((query, position) => {
    const out = new Float64Array(heads * head)
    const last = causal ? position : keys.length - 1
    for (let h = 0; h < heads; h++) {
      const shared = Math.floor(h / (heads / kvHeads)) * head
      const scores = []
      for (let other = 0; other <= last; other++) {
        let sum = 0
        for (let i = 0; i < head; i++) sum += query[h * head + i] * keys[other][shared + i]
        scores.push(sum / Math.sqrt(head))
      }
      const most = Math.max(...scores)
      const powers = scores.map(score => Math.exp(score - most))
      const total = powers.reduce((a, b) => a + b)
      powers.forEach((power, other) => {
        for (let i = 0; i < head; i++) out[h * head + i] += power / total * values[other][shared + i]
      })
    }
    return out
  })
}

// The last states after the final norm, of llama, mistral, qwen2 and qwen3.
export function decode(config, weights, tokens, prefix = 'model.') {
  const {num_attention_heads: heads, num_key_value_heads: kvHeads, rms_norm_eps: epsilon, hidden_size: width} = config
  const head = config.head_dim ?? width / heads
  const frequencies = frequenciesOf(config, head)
  const embedding = weights[`${prefix}embed_tokens.weight`].values
  let states = tokens.map(token => embedding.slice(token * width, (token + 1) * width))
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `${prefix}layers.${i}.`
    const normed = states.map(x => rmsNorm(weights[`${layer}input_layernorm.weight`], epsilon, x))
    const turned = (name, headNorm) => linear(weights, `${layer}self_attn.${name}`, normed).map((x, position) => {
      const norm = weights[`${layer}self_attn.${headNorm}.weight`]
      if (norm) {
        for (let at = 0; at < x.length; at += head) x.set(rmsNorm(norm, epsilon, x.slice(at, at + head)), at)
      }
      return rotate(x, position, head, frequencies)
    })
    const attended = attend(turned('q_proj', 'q_norm'), turned('k_proj', 'k_norm'),
      linear(weights, `${layer}self_attn.v_proj`, normed), {heads, kvHeads, head, causal: true})
    states = add(states, linear(weights, `${layer}self_attn.o_proj`, attended))
    const again = states.map(x => rmsNorm(weights[`${layer}post_attention_layernorm.weight`], epsilon, x))
    const up = linear(weights, `${layer}mlp.up_proj`, again)
    const gated = linear(weights, `${layer}mlp.gate_proj`, again)
      .map((x, p) => x.map((value, j) => value / (1 + Math.exp(-value)) * up[p][j]))
    states = add(states, linear(weights, `${layer}mlp.down_proj`, gated))
  }
  return states.map(x => rmsNorm(weights[`${prefix}norm.weight`], epsilon, x))
}

export function logits(config, weights, tokens, prefix = 'model.') {
  const last = decode(config, weights, tokens, prefix).at(-1)
  const name = config.tie_word_embeddings ? `${prefix}embed_tokens` : 'lm_head'
  return linear({'output.weight': weights[`${name}.weight`]}, 'output', [last])[0]
}

// The error function: its series where that loses no digits, its asymptotic expansion beyond.
function erf(x) {
  const size = Math.abs(x)
  if (size > 3) {
    const s = 1 / (2 * size * size)
    const rest = Math.exp(-size * size) / (size * Math.sqrt(Math.PI)) * (1 - s + 3 * s ** 2 - 15 * s ** 3 + 105 * s ** 4)
    return Math.sign(x) * (1 - rest)
  }
  let term = x, sum = x
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= -x * x / n
    sum += term / (2 * n + 1)
  }
  return sum * 2 / Math.sqrt(Math.PI)
}

// The last states of bert and xlm-roberta, whose positions begin after the padding token's.
export function encode(config, weights, tokens, prefix = '') {
  const {num_attention_heads: heads, layer_norm_eps: epsilon, hidden_size: width} = config
  const head = width / heads
  const first = config.model_type === 'xlm-roberta' ? config.pad_token_id + 1 : 0
  const row = (name, i) => weights[`${prefix}embeddings.${name}.weight`].values.slice(i * width, (i + 1) * width)
  let states = tokens.map((token, position) => {
    const type = row('token_type_embeddings', 0), place = row('position_embeddings', position + first)
    return layerNorm(weights, `${prefix}embeddings.LayerNorm`, epsilon,
      row('word_embeddings', token).map((value, i) => value + type[i] + place[i]))
  })
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `${prefix}encoder.layer.${i}.`
    const of = name => linear(weights, `${layer}attention.self.${name}`, states)
    const attended = attend(of('query'), of('key'), of('value'), {heads, kvHeads: heads, head, causal: false})
    states = add(states, linear(weights, `${layer}attention.output.dense`, attended))
      .map(x => layerNorm(weights, `${layer}attention.output.LayerNorm`, epsilon, x))
    const inner = linear(weights, `${layer}intermediate.dense`, states)
      .map(x => x.map(value => value / 2 * (1 + erf(value / Math.SQRT2))))
    states = add(states, linear(weights, `${layer}output.dense`, inner))
      .map(x => layerNorm(weights, `${layer}output.LayerNorm`, epsilon, x))
  }
  return states
}

export const pool = {
  mean: states => states[0].map((_, i) => states.reduce((sum, x) => sum + x[i], 0) / states.length),
  cls: states => states[0],
  lasttoken: states => states.at(-1),
}
