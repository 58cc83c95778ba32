-- Health of SLMModels, SLMDeployments and SLMRollouts for Argo CD. One script for all: their conditions mean the same.
-- Needs no library but those that Argo CD gives to every script.
local status = obj.status or {}

local function find(type)
  for _, condition in ipairs(status.conditions or {}) do
    if condition.type == type then
      return condition
    end
  end
  return nil
end

local function isTrue(type)
  local condition = find(type)
  return condition ~= nil and condition.status == "True"
end

-- What only somebody else ends: a person who resumes or approves, a window, or the waves of an SLMRollout.
local held = { Paused = true, WaitingForApproval = true, WaitingForWave = true, OutsideWindow = true }

local ready = find("Ready")
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not looked at this spec yet" }
end
if ready.reason == "Suspended" then
  return { status = "Suspended", message = ready.message }
end
if isTrue("Stalled") then
  return { status = "Degraded", message = ready.message }
end
local phase = (status.rollout or {}).phase
if obj.spec.paused or obj.spec.suspend or held[phase] or (obj.kind == "SLMRollout" and held[ready.reason]) then
  return { status = "Suspended", message = ready.message }
end
if ready.status == "True" then
  local degraded = find("HardwareDegraded")
  if degraded ~= nil and degraded.status == "True" then
    return { status = "Healthy", message = ready.message .. "; " .. degraded.message }
  end
  return { status = "Healthy", message = ready.message }
end
return { status = "Progressing", message = ready.message }
