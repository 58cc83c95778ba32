/** The selector that Kubernetes has for objects with labels, as a piece of our own kinds. Says its shape; matches nothing itself. */
import type { Static } from 'typebox';
import { list, mapOf, object, optional, text, word } from './schema.ts';

/** A selector by labels; an empty one matches everything. */
export const labelSelector = (description: string) =>
  object(
    {
      matchLabels: optional(
        mapOf(text({ max: 63, description: 'Value of the label.' }), { max: 32, description: 'All must be there.' }),
      ),
      matchExpressions: optional(
        list(
          object(
            {
              key: text({ max: 317, min: 1, description: 'Key of the label.' }),
              operator: word(['In', 'NotIn', 'Exists', 'DoesNotExist'], { description: 'How values are compared.' }),
              values: optional(
                list(text({ max: 63, description: 'A value.' }), {
                  max: 64,
                  atomic: true,
                  description: 'For In and NotIn.',
                }),
              ),
            },
            {
              description: 'A requirement.',
              rules: [
                {
                  rule: "self.operator in ['In', 'NotIn'] ? (has(self.values) && size(self.values) > 0) : !has(self.values)",
                  message: 'In and NotIn need values; Exists and DoesNotExist have none',
                },
              ],
            },
          ),
          { max: 16, atomic: true, description: 'All must hold.' },
        ),
      ),
    },
    { description },
  );
export type LabelSelector = Static<ReturnType<typeof labelSelector>>;
