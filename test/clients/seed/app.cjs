// A small web application that answers its users with a model: axios towards the server, Express towards them.
const axios = require('axios');
const express = require('express');

const API = `${process.env.ENDPOINT}/api`;

async function generateText(model, prompt, systemPrompt = '') {
  const response = await axios.post(`${API}/generate`, {
    model: model,
    prompt: prompt,
    system: systemPrompt,
    stream: false,
    options: { temperature: 0.7, top_k: 40, top_p: 0.9, num_predict: 1024 },
  });
  return response.data.response;
}

const app = express();
app.use(express.json());

app.post('/api/chat', async (req, res) => {
  const { message, model } = req.body;
  try {
    res.json({ response: await generateText(model ?? 'phi4:mini', message, 'You are a friendly assistant.') });
  } catch (error) {
    res.status(500).json({ error: 'No answer could be generated', reason: error.response?.data?.error });
  }
});

const listener = app.listen(0, '127.0.0.1', () => {
  console.log(listener.address().port);
});
